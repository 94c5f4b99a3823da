"""From an upright RGB image to the pixels that the model expects: resizing and crops."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from aigid.contract import ImageSpec, Resizing

Pixels = npt.NDArray[np.uint8]

Box = tuple[float, float, float, float]

BLOCK = 16
"""Native crops begin at multiples of this many pixels. JPEG's blocks (8 pixels, or 16 with chroma
subsampling) and a decoder's strides begin there, so their traces are at the same place in every
crop."""

# The filters of the ways of resizing that do not keep the aspect ratio.
_SQUASHING = {
    Resizing.SQUASH: Image.Resampling.BILINEAR,
    Resizing.SQUASH_BICUBIC: Image.Resampling.BICUBIC,
}


def resize_and_crop(image: Image.Image, filled: Box, spec: ImageSpec) -> Pixels:
    """Return the pixels of `spec.shape`, of the part of an RGB image that its content fills."""
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
