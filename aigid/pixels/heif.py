"""HEIC and HEIF, with the extra `heif`."""

import io

from PIL import Image

from aigid.extras import install_command


def open_heif(data: bytes) -> Image.Image:
    """Open an HEIC or HEIF image: its primary one, upright as its container says.

    libheif turns it. pillow-heif then takes the orientation out of the EXIF block, which says the
    same once more. Raises ValueError where pillow-heif is not installed.
    """
    try:
        # Not registered with Pillow: that would change what Pillow reads for the whole process.
        from pillow_heif import HeifImageFile
    except ModuleNotFoundError as error:
        raise ValueError(
            f"HEIC image, which needs {error.name}: {install_command('heif')}"
        ) from error
    return HeifImageFile(io.BytesIO(data))
