"""HEIC and HEIF, with the extra `heif`."""

import io

from PIL import Image

from aigid.extras import install_command
from aigid.records import ErrorCode, RowFailure


def open_heif(data: bytes) -> Image.Image:
    """Open the primary image of an HEIC or HEIF file.

    libheif turns it upright as its container says. pillow-heif takes the orientation out of the
    EXIF block, which says the same once more. Raises RowFailure where pillow-heif is not installed,
    and EOFError where the file was cut short: libheif would leave the rest of the image black.
    """
    try:
        # Not registered with Pillow: that would change what Pillow reads in the whole process.
        from pillow_heif import HeifImageFile
    except ModuleNotFoundError as error:
        detail = f"a HEIC image, which needs {error.name}: {install_command('heif')}"
        raise RowFailure(ErrorCode.UNDECODABLE, detail) from error
    _check_whole(data)
    image: Image.Image = HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]
    return image


def _check_whole(data: bytes) -> None:
    """Raise EOFError where one of the boxes of a file is longer than the file."""
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:
            # 0: up to the end of the file.
            return
        position += size
    if position > len(data):
        raise EOFError("the HEIC was cut short")
