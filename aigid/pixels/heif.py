"""HEIC and HEIF, with the extra `heif`."""

import io

from PIL import Image

from aigid.extras import install_command
from aigid.records import ErrorCode, RowFailure


def open_heif(data: bytes) -> Image.Image:
    """Open the primary image of an HEIC or HEIF file.

    libheif turns it upright as its container says. pillow-heif takes the orientation out of the
    EXIF block, which says the same once more. Raises RowFailure where pillow-heif is not installed.
    """
    try:
        # Not registered with Pillow: that would change what Pillow reads in the whole process.
        from pillow_heif import HeifImageFile
    except ModuleNotFoundError as error:
        detail = f"a HEIC image, which needs {error.name}: {install_command('heif')}"
        raise RowFailure(ErrorCode.UNDECODABLE, detail) from error
    image: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    return image
