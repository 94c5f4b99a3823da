"""From encoded image bytes to the model's pixels: the only image preprocessing in aigid."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from aigid.contract import ImageSpec, Resizing
from aigid.records import ErrorCode, RowFailure

Pixels = npt.NDArray[np.uint8]

# Only these parsers see untrusted bytes: Pillow has dozens, and some of them run other programs.
# The JPEG parser also reads MPO.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")

# What Pillow's plugins raise on damaged files, and the codecs below them (RuntimeError: libavif).
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    EOFError,
    struct.error,
    zlib.error,
)

_Turn = Image.Transpose
# By EXIF orientation: the transposition that turns the image upright, and whether it moves the
# stored image's right and bottom edges to the left and to the top.
_TURNS: dict[object, tuple[_Turn | None, bool, bool]] = {
    1: (None, False, False),
    2: (_Turn.FLIP_LEFT_RIGHT, True, False),
    3: (_Turn.ROTATE_180, True, True),
    4: (_Turn.FLIP_TOP_BOTTOM, False, True),
    5: (_Turn.TRANSPOSE, False, False),
    6: (_Turn.ROTATE_270, True, False),
    7: (_Turn.TRANSVERSE, True, True),
    8: (_Turn.ROTATE_90, False, True),
}
_SIDEWAYS = (_Turn.TRANSPOSE, _Turn.ROTATE_270, _Turn.TRANSVERSE, _Turn.ROTATE_90)

# The filters of the ways of resizing that do not keep the aspect ratio.
_SQUASHING = {
    Resizing.SQUASH: Image.Resampling.BILINEAR,
    Resizing.SQUASH_BICUBIC: Image.Resampling.BICUBIC,
}

Box = tuple[float, float, float, float]

BLOCK = 16
"""Native crops begin at multiples of this many pixels. JPEG's blocks (8 pixels, or 16 with chroma
subsampling) and a decoder's strides begin there, so their traces are at the same place in every
crop."""


@dataclass(frozen=True)
class DecodeLimits:
    """Limits on an image, checked before it is decoded."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 100_000_000


def decode_image(
    data: bytes, spec: ImageSpec, limits: DecodeLimits = DecodeLimits(), *, draft: bool = True
) -> Pixels:
    """Decode `data` to uint8 RGB pixels of `spec.shape`.

    Applies the EXIF orientation and composites transparent pixels over white. Where `spec` resizes,
    a large JPEG is decoded at the smallest DCT scale that is still twice the target (3x faster at
    2,048 pixels; the pixels differ by about 0.3 of 255 on average); for native crops it is decoded
    in full. Training, evaluation, scanning and serving all decode here. `draft=False` always
    decodes in full: the reference that tests compare with.
    Raises RowFailure: `empty`, `too_large` or `undecodable`.
    """
    image = open_image(data, limits)
    with _row_failures():
        return _to_pixels(image, spec, draft=draft)


def changed_pixels(
    data: bytes,
    spec: ImageSpec,
    changes: Sequence[Callable[[Image.Image], Image.Image] | None],
    limits: DecodeLimits = DecodeLimits(),
) -> list[Pixels]:
    """Return the pixels after each of `changes`: what `decode_image` gives for the changed file.

    A change takes the whole image, upright and in RGB. What it returns is decoded and resized as a
    file with that content is: where it returns a JPEG that it did not decode, also at a scale. None
    changes nothing, nor does a change that returns its own image: the pixels are then those of
    `data`. Raises RowFailure as `decode_image` does.
    """
    whole = _decode_whole(data, limits) if any(changes) else None
    found = []
    for change in changes:
        changed = None if change is None or whole is None else change(whole)
        if changed is None or changed is whole:
            found.append(decode_image(data, spec, limits))
        else:
            with _row_failures():
                found.append(_to_pixels(changed, spec, draft=True))
    return found


def open_image(data: bytes, limits: DecodeLimits = DecodeLimits()) -> Image.Image:
    """Open an encoded image: read its header and check the limits, but do not decode it.

    Raises RowFailure: `empty`, `too_large` or `undecodable`.
    """
    check_byte_limit(len(data), limits)
    with _row_failures():
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_pixel_limit(image.size, limits)
    return image


def image_pixels(
    image: Image.Image, spec: ImageSpec, limits: DecodeLimits = DecodeLimits()
) -> Pixels:
    """Return the pixels of a PIL image of any mode: those of its file, decoded without `draft`.

    Raises RowFailure: `empty`, `too_large` or `undecodable`.
    """
    with _row_failures():
        _check_pixel_limit(image.size, limits)
        return _to_pixels(image, spec, draft=False)


def check_byte_limit(size: int, limits: DecodeLimits) -> None:
    """Raise RowFailure if an encoded image of `size` bytes is empty or over the limit."""
    if size == 0:
        raise RowFailure(ErrorCode.EMPTY, "zero bytes")
    if size > limits.max_bytes:
        raise RowFailure(ErrorCode.TOO_LARGE, f"{size} bytes; the limit is {limits.max_bytes}")


def _check_pixel_limit(size: tuple[int, int], limits: DecodeLimits) -> None:
    width, height = size
    if width * height == 0:
        raise RowFailure(ErrorCode.EMPTY, f"{width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise RowFailure(
            ErrorCode.TOO_LARGE, f"{width} x {height} pixels; the limit is {limits.max_pixels}"
        )


@contextmanager
def _row_failures() -> Iterator[None]:
    """Turn Pillow's exceptions into RowFailure."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise RowFailure(ErrorCode.TOO_LARGE, _one_line(error)) from error
    except UnidentifiedImageError as error:
        # Pillow's own text has an address in memory, which differs from run to run.
        detail = f"not an image, or damaged at its start; images are {', '.join(FORMATS)}"
        raise RowFailure(ErrorCode.UNDECODABLE, detail) from error
    except DAMAGED as error:
        raise RowFailure(ErrorCode.UNDECODABLE, _one_line(error)) from error
    except MemoryError as error:
        raise RowFailure(ErrorCode.TOO_LARGE, "not enough memory to decode it") from error


def _decode_whole(data: bytes, limits: DecodeLimits) -> Image.Image:
    """Decode an encoded image in full, upright and in RGB."""
    image = open_image(data, limits)
    with _row_failures():
        image.load()
        rgb = _to_rgb(_upright(image, image.size)[0])
        # Without the file's metadata, whose orientation and transparency have been applied.
        return Image.fromarray(np.asarray(rgb))


def _to_pixels(image: Image.Image, spec: ImageSpec, *, draft: bool) -> Pixels:
    # Only a JPEG that is not decoded yet has a draft.
    two_sides = (2 * spec.size, 2 * spec.size)
    drafted = image.draft(None, two_sides) if draft and not spec.is_native else None
    image.load()
    # At half scale, an image of 1,535 pixels fills 767.5 of 768: with 768 the crop would move.
    upright, box = _upright(image, drafted[1][2:] if drafted else image.size)
    return _resize_and_crop(_to_rgb(upright), spec, box)


def _upright(image: Image.Image, filled: tuple[float, float]) -> tuple[Image.Image, Box]:
    """Apply the EXIF orientation. Return the image, and the box that its content fills."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED:
        # A damaged EXIF block tells nothing about the pixels: keep them as they are stored.
        orientation = 1
    turn, left, top = _TURNS.get(orientation, _TURNS[1])
    width, height = reversed(filled) if turn in _SIDEWAYS else filled
    upright = image if turn is None else image.transpose(turn)
    x, y = upright.width - width if left else 0, upright.height - height if top else 0
    return upright, (x, y, x + width, y + height)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        wide = np.asarray(image).astype(np.uint32)
        grey = ((wide + 128) // 257).astype(np.uint8)
        grey[wide == image.info.get("transparency", -1)] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixel mode {image.mode} has no defined white")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _resize_and_crop(image: Image.Image, spec: ImageSpec, filled: Box) -> Pixels:
    x, y, width, height = filled[0], filled[1], filled[2] - filled[0], filled[3] - filled[1]
    shorter, size = min(width, height), spec.size
    if spec.resizing in _SQUASHING:
        squares = [image.resize((size, size), _SQUASHING[spec.resizing], box=filled)]
    elif (spec.is_native and shorter >= size) or shorter == size:
        corners = _corners(image.size, spec, BLOCK if spec.is_native else 1)
        squares = [image.crop((left, top, left + size, top + size)) for left, top in corners]
    else:
        # The longer side is cut to whole pixels, as transformers' CLIPImageProcessor does.
        resized = int(size * width / shorter), int(size * height / shorter)
        # Resizing only the crop's part gives the same pixels as resizing all of it, and costs less.
        # (Newer Pillows choose by size whether to resize rows or columns first. The other order
        # rounds differently, by 0.2 of 255 on average.)
        across, down = width / resized[0], height / resized[1]
        boxes = [
            (x + left * across, y + top * down, x + (left + size) * across, y + (top + size) * down)
            for left, top in _corners(resized, spec)
        ]
        squares = [image.resize((size, size), Image.Resampling.BICUBIC, box=box) for box in boxes]
    return (
        np.asarray(squares[0])
        if len(squares) == 1
        else np.concatenate([np.asarray(square) for square in squares])
    )


def _corners(size: tuple[int, int], spec: ImageSpec, block: int = 1) -> list[tuple[int, int]]:
    """Return left and top of each crop in an image of `size`, at multiples of `block` pixels.

    One crop is at the centre. A grid of crops goes from edge to edge, in row-major order.
    """
    room, across = [side - spec.size for side in size], spec.crops_across
    if across == 1:
        lefts, tops = ([free // 2] for free in room)
    else:
        lefts, tops = (
            [round(step * free / (across - 1)) for step in range(across)] for free in room
        )
    return [(left - left % block, top - top % block) for top in tops for left in lefts]


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
