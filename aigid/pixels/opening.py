"""Open encoded images: name the format, check the limits, and read the header."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from aigid.pixels import gif_and_bmp, jpeg, png, tiff
from aigid.pixels.avif import largest_frame
from aigid.pixels.damage import DAMAGED
from aigid.pixels.heif import open_heif
from aigid.pixels.limits import DecodeLimits, check_pixel_limit
from aigid.pixels.signatures import is_heif, name_format

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
"""Only these of Pillow's parsers see untrusted bytes: it has dozens, and some of them run other
programs. The JPEG parser also reads MPO. Of several frames the first one counts.

Two that stay shut: JPEG 2000, since OpenJPEG holds 4 bytes for each sample of a tile, and does work
for tiles, layers and resolutions that the size of an image does not bound; and icons (ICO), since
Pillow learns the true size of their PNG or BMP only while it decodes it, and they hold one drawing
in several sizes rather than an image."""

READABLE = f"{', '.join(FORMATS)}, HEIC"

Answer = TypeVar("Answer")

# Bytes for each pixel that a decoder holds besides the image that it returns, as measured
# (benchmarks/README.md): a canvas for the next frame, planes of the codec, copies.
_DECODER_BYTES = {"WEBP": 12, "AVIF": 12, "HEIF": 12}


@dataclass(frozen=True)
class OpenedImage:
    """An image whose header was read, and the bytes that it was read from, where they are known."""

    image: Image.Image
    data: bytes = b""
    decoder_bytes: int = 0
    """Memory that the decoder needs besides the pixels, where the header tells."""

    def close(self) -> None:
        """Free the pixels, unless the image is a caller's own."""
        if self.data:
            self.image.close()


def open_encoded(data: bytes, limits: DecodeLimits) -> OpenedImage:
    """Open an image within the limits on its bytes. Raises RowFailure, or what Pillow raises."""
    opened = _open(data, limits)
    check_pixel_limit(opened.image.size, limits)
    return opened


def retry_png(data: bytes, read: Callable[[bytes], Answer]) -> Answer:
    """Return `read(data)`; where that fails, read a PNG once more without its metadata.

    Pillow refuses files for damage, or for size, of chunks that do not change a pixel.
    """
    try:
        return read(data)
    except DAMAGED:
        pixels = png.pixel_chunks(data) if data.startswith(png.SIGNATURE) else None
        if pixels is None:
            raise
    return read(pixels)


def _open(data: bytes, limits: DecodeLimits) -> OpenedImage:
    if data.startswith(jpeg.SIGNATURE):
        data = jpeg.with_end_marker(data)
        layout = jpeg.read_layout(data, limits)
        return OpenedImage(_open_with_pillow(data), data, layout.coefficient_bytes if layout else 0)
    if data.startswith(png.SIGNATURE):
        data = png.checked(data)
        return OpenedImage(_open_with_pillow(data), data)
    if data.startswith(tiff.SIGNATURES):
        buffer_bytes = tiff.buffer_bytes(data)
        tiff.catch_errors()
        return OpenedImage(_open_with_pillow(data), data, buffer_bytes)
    if data.startswith(gif_and_bmp.GIF_SIGNATURES):
        gif_and_bmp.check_gif(data)
    elif data.startswith(gif_and_bmp.BMP_SIGNATURE):
        gif_and_bmp.check_bmp(data)
    image = open_heif(data) if is_heif(data) else _open_with_pillow(data)
    width, height = image.size
    if image.format == "AVIF":
        # Its container may say less. (libheif compares both itself.)
        width, height = max((width, height), largest_frame(data), key=math.prod)
        check_pixel_limit((width, height), limits)
    for_pixel = _DECODER_BYTES.get(str(image.format), 0)
    return OpenedImage(image, data, for_pixel * width * height)


def _open_with_pillow(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        # Pillow's own text has an address in memory, which differs from run to run.
        raise UnidentifiedImageError(_explain(data)) from error


def _explain(data: bytes) -> str:
    name = name_format(data)
    if name is None:
        what = "not an image, or damaged at its start"
    elif name in FORMATS:
        what = f"a damaged {name} image, or a kind of {name} that Pillow does not read"
        what += tiff.sample_kind(data) if name == "TIFF" else ""
    else:
        what = f"not an image that aigid reads, but: {name}"
    return f"{what}; images are {READABLE}"
