"""From encoded image bytes to the model's pixels: the only image preprocessing in aigid."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from PIL import Image

from aigid.contract import ImageSpec
from aigid.memory_budget import LARGE_ROWS
from aigid.pixels.colours import orientation_of, to_rgb, turn_upright
from aigid.pixels.damage import row_failures
from aigid.pixels.jpeg import load_jpeg
from aigid.pixels.limits import (
    DecodeLimits,
    check_byte_limit,
    check_memory_limit,
    check_pixel_limit,
)
from aigid.pixels.opening import OpenedImage, open_encoded, retry_png
from aigid.pixels.resize import Box, Pixels, resize_and_crop
from aigid.pixels.retry import retry_alone
from aigid.pixels.tiff import load_tiff

# MPO: several JPEGs in one file.
_JPEG_FORMATS = ("JPEG", "MPO")


def decode_image(
    data: bytes, spec: ImageSpec, limits: DecodeLimits = DecodeLimits(), *, draft: bool = True
) -> Pixels:
    """Decode `data` to uint8 RGB pixels of `spec.shape`.

    Applies the EXIF orientation and composites transparent pixels over white. Where `spec` resizes,
    a large JPEG is decoded at the smallest DCT scale that is still twice the target (3x faster at
    2,048 pixels; the pixels differ by about 0.3 of 255 on average); for native crops it is decoded
    in full. Training, evaluation, scanning and serving all decode here. `draft=False` always
    decodes in full: the reference that tests compare with. A thread may wait here for the memory
    that others use for large images.
    Raises RowFailure: `empty`, `too_large` or `undecodable`; and AigidError where the host has too
    little memory for an image within the limits.
    """
    check_byte_limit(len(data), limits)
    read = partial(_decode, spec=spec, limits=limits, draft=draft)
    with row_failures():
        return retry_alone(lambda: retry_png(data, read), limits.max_memory_bytes)


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
            with row_failures():
                found.append(_to_pixels(OpenedImage(changed), spec, limits, draft=True))
    return found


def open_image(data: bytes, limits: DecodeLimits = DecodeLimits()) -> Image.Image:
    """Open an encoded image: read its header and check the limits, but do not decode it.

    Raises RowFailure: `empty`, `too_large` or `undecodable`.
    """
    check_byte_limit(len(data), limits)
    with row_failures():
        return retry_png(data, lambda data: open_encoded(data, limits).image)


def whole_image(data: bytes, limits: DecodeLimits = DecodeLimits()) -> Image.Image:
    """Return an encoded image in full: in the file's own mode, transparent and not turned.

    Raises RowFailure as `decode_image` does.
    """
    check_byte_limit(len(data), limits)

    def read(data: bytes) -> Image.Image:
        opened = open_encoded(data, limits)
        with LARGE_ROWS.reserve(_needed_bytes(opened, limits)):
            return _load(opened)

    with row_failures():
        return retry_png(data, read)


def image_pixels(
    image: Image.Image, spec: ImageSpec, limits: DecodeLimits = DecodeLimits()
) -> Pixels:
    """Return the pixels of a PIL image of any mode: those of its file, decoded without `draft`.

    Raises RowFailure: `empty`, `too_large` or `undecodable`.
    """
    with row_failures():
        check_pixel_limit(image.size, limits)
        read = partial(_to_pixels, OpenedImage(image), spec, limits, draft=False)
        return retry_alone(read, limits.max_memory_bytes)


def _decode(data: bytes, *, spec: ImageSpec, limits: DecodeLimits, draft: bool) -> Pixels:
    return _to_pixels(open_encoded(data, limits), spec, limits, draft=draft)


def _decode_whole(data: bytes, limits: DecodeLimits) -> Image.Image:
    """Decode an encoded image in full, upright and in RGB."""
    check_byte_limit(len(data), limits)

    def read(data: bytes) -> Image.Image:
        opened = open_encoded(data, limits)
        with LARGE_ROWS.reserve(_needed_bytes(opened, limits)):
            rgb, _ = _load_upright(opened, None)
            # Without the file's metadata, whose orientation and transparency have been applied.
            return Image.fromarray(np.asarray(rgb))

    with row_failures():
        return retry_png(data, read)


def _to_pixels(
    opened: OpenedImage, spec: ImageSpec, limits: DecodeLimits, *, draft: bool
) -> Pixels:
    # Only a JPEG that is not decoded yet is drafted. (HEIC files would give their thumbnail, which
    # may be another image.)
    image, drafted = opened.image, None
    if draft and not spec.is_native and image.format in _JPEG_FORMATS:
        drafted = image.draft(None, (2 * spec.size, 2 * spec.size))
    # At half scale, an image of 1,535 pixels fills 767.5 of 768: with 768 the crop would move.
    filled = drafted[1][2:] if drafted else None
    with LARGE_ROWS.reserve(_needed_bytes(opened, limits)):
        pixels = resize_and_crop(*_load_upright(opened, filled), spec)
        opened.close()
        return pixels


def _needed_bytes(opened: OpenedImage, limits: DecodeLimits) -> int:
    """Return the memory that decoding takes: a decoder's and the image, then one copy of that."""
    pixels = opened.image.width * opened.image.height
    needed_bytes = max(opened.decoder_bytes + 4 * pixels, 8 * pixels)
    check_memory_limit(needed_bytes, limits)
    return needed_bytes


def _load_upright(
    opened: OpenedImage, filled: tuple[float, float] | None
) -> tuple[Image.Image, Box]:
    """Decode an opened image; return it upright in RGB, and the box that its content fills."""
    image, loaded = opened.image, _load(opened)
    # Only now: Pillow turns a TIFF while it decodes it, and a PNG has its EXIF block at its end.
    orientation, size = orientation_of(image), filled or image.size
    rgb = to_rgb(loaded)
    if rgb is not loaded:
        # Not both, and a turned copy.
        opened.close()
    return turn_upright(rgb, orientation, size)


def _load(opened: OpenedImage) -> Image.Image:
    """Decode an opened image, at the scale that it is drafted to."""
    image = opened.image
    if opened.data and image.format in _JPEG_FORMATS:
        return load_jpeg(image, opened.data)
    if opened.data and image.format == "TIFF":
        load_tiff(image)
    else:
        image.load()
    return image
