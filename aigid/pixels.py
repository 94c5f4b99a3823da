"""Encoded image bytes to the model's pixels: the only image preprocessing in aigid."""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from aigid.contract import ImageSpec, Resizing
from aigid.records import ErrorCode, RowFailure

Pixels = npt.NDArray[np.uint8]

# Only these parsers ever see a stranger's bytes (Pillow knows dozens, some of which run other programs).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "MPO")

# What Pillow raises on damaged files, by its own plugins and the codecs below them.
DAMAGED = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, KeyError, IndexError, TypeError, OverflowError)


@dataclass(frozen=True)
class DecodeLimits:
    """What an image may cost, checked before it is decoded."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000


def decode_image(data: bytes, spec: ImageSpec, limits: DecodeLimits = DecodeLimits(), *, draft: bool = True) -> Pixels:
    """Decode `data` to uint8 RGB [size, size, 3], as `spec` says; EXIF orientation applied, alpha laid over white.

    With `draft`, a large JPEG is decoded at the smallest DCT scale that is still twice the target (3x faster at
    2,048 pixels; the pixels differ by about 0.3 of 255 on average). Raises
    RowFailure: `empty`, `too_large` or `undecodable`.
    """
    check_byte_limit(len(data), limits)
    image = open_image(data, limits)
    try:
        if draft and spec.resizing is Resizing.SHORTER_SIDE:
            image.draft(None, (2 * spec.size, 2 * spec.size))
        image.load()
        image = _to_rgb(_upright(image))
        return np.asarray(_resize_and_crop(image, spec))
    except Image.DecompressionBombError as error:
        raise RowFailure(ErrorCode.TOO_LARGE, str(error)) from error
    except DAMAGED as error:
        raise RowFailure(ErrorCode.UNDECODABLE, _one_line(error)) from error
    except MemoryError as error:
        raise RowFailure(ErrorCode.TOO_LARGE, "not enough memory to decode it") from error


def check_byte_limit(size: int, limits: DecodeLimits) -> None:
    """Raise RowFailure where an encoded image of `size` bytes is empty or over the limit."""
    if size == 0:
        raise RowFailure(ErrorCode.EMPTY, "zero bytes")
    if size > limits.max_bytes:
        raise RowFailure(ErrorCode.TOO_LARGE, f"{size} bytes; the limit is {limits.max_bytes}")


def open_image(data: bytes, limits: DecodeLimits) -> Image.Image:
    """Read the header only, and refuse by its pixel count before anything is decoded."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise RowFailure(ErrorCode.TOO_LARGE, str(error)) from error
    except DAMAGED as error:
        raise RowFailure(ErrorCode.UNDECODABLE, _one_line(error)) from error
    width, height = image.size
    if width * height > limits.max_pixels:
        raise RowFailure(ErrorCode.TOO_LARGE, f"{width} x {height} pixels; the limit is {limits.max_pixels}")
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except DAMAGED:
        # A damaged EXIF block says nothing about the picture: it stays as it is stored.
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixel mode {image.mode} has no defined white")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _resize_and_crop(image: Image.Image, spec: ImageSpec) -> Image.Image:
    width, height = image.size
    shorter, size = min(width, height), spec.size
    if spec.resizing is Resizing.NATIVE_CROP and shorter >= size:
        new_width, new_height = width, height
    else:
        # The longer side is cut to whole pixels, as transformers' CLIPImageProcessor does.
        new_width, new_height = int(size * width / shorter), int(size * height / shorter)
    left, top = (new_width - size) // 2, (new_height - size) // 2
    if (new_width, new_height) == (width, height):
        return image.crop((left, top, left + size, top + size))
    # Resizing only what the crop keeps gives the same pixels as resizing all, and costs less.
    across, down = width / new_width, height / new_height
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
