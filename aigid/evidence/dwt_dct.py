"""The open watermarks that generators embed with the package `invisible-watermark` ("dwtDct").

Each 4 x 4 block of the Haar transform's low band of U holds one bit of the mark, in its largest
value. (Despite the method's name it takes no DCT.) The blocks hold the mark's bits in turn, again
and again, so that they vote on each bit. A mark survives neither scaling nor cropping, and hardly a
JPEG.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt
from PIL import Image

from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.readers import Cost, Reader, Takes

# The package marks no smaller image.
_LEAST_PIXELS = 256 * 256
_STEP = 36
_BLOCK, _STRIP_ROWS = 8, 512
# What OpenCV adds to U: for images of integers (Stable Diffusion 1 and 2, InvokeAI), and for those
# of floats (SDXL and FLUX). It changes which value is the largest.
_OFFSETS = (128.0, 0.5)
# A bit is 1 if more than this share of its blocks says so.
_MAJORITY = 127 / 255
# Of how many images without a mark one may be taken for marked, for each mark.
_ONE_IN = 1e9


@dataclass(frozen=True)
class _Mark:
    name: str
    generator: str
    bits: tuple[int, ...]

    @property
    def least_matches(self) -> int:
        """The fewest bits that chance makes match in one of `_ONE_IN` images."""
        count, chance = len(self.bits), 0.0
        for matches in range(count, 0, -1):
            chance += comb(count, matches) / 2**count
            if chance > 1 / _ONE_IN:
                return matches + 1
        raise AssertionError(self.name)


def _of_text(text: str) -> tuple[int, ...]:
    return tuple(int(bit) for bit in np.unpackbits(np.frombuffer(text.encode(), np.uint8)))


def _of_number(number: int) -> tuple[int, ...]:
    # As the generators write it: the zeros at the start of FLUX's number are no bits of its mark.
    return tuple(int(bit) for bit in f"{number:b}")


_MARKS = (
    _Mark("StableDiffusionV1", "Stable Diffusion", _of_text("StableDiffusionV1")),
    _Mark("SDV2", "Stable Diffusion 2", _of_text("SDV2")),
    _Mark(
        "SDXL",
        "Stable Diffusion XL",
        _of_number(0b101100111110110010010000011110111011000110011110),
    ),
    _Mark("FLUX", "Flux", _of_number(0b001010101111111010000111100111001111010100101110)),
    _Mark("InvokeAI", "InvokeAI", _of_text("InvokeAI")),
)


def read(image: Image.Image) -> Iterator[Finding]:
    """Yield the finding of each mark that the pixels hold."""
    if image.width * image.height < _LEAST_PIXELS or min(image.size) < _BLOCK:
        return
    votes = _votes(image)
    for mark in _MARKS:
        matches = max(_matches(of_offset, mark.bits) for of_offset in votes)
        if matches >= mark.least_matches:
            details = {"mark": mark.name, "matching_bits": f"{matches} of {len(mark.bits)}"}
            found = ("dwt-dct", Says.AI, Strength.METADATA, "pixels")
            yield Finding(*found, source=mark.generator, details=details)


READER = Reader("dwt-dct", Takes.PIXELS, Cost.MEDIUM, read)


def _matches(votes: npt.NDArray[np.bool_], bits: tuple[int, ...]) -> int:
    numbers = np.arange(len(votes)) % len(bits)
    share = np.bincount(numbers, votes, len(bits)) / np.bincount(numbers, minlength=len(bits)).clip(
        1
    )
    return int(((share > _MAJORITY) == np.array(bits, np.bool_)).sum())


def _votes(image: Image.Image) -> npt.NDArray[np.bool_]:
    """Return the bit of each block, in the order of rows: bool [offsets, blocks]."""
    width, height = image.width // _BLOCK * _BLOCK, image.height // _BLOCK * _BLOCK
    strips = range(0, height, _STRIP_ROWS)
    boxes = ((0, top, width, min(top + _STRIP_ROWS, height)) for top in strips)
    return np.concatenate([_votes_of_strip(image.crop(box)) for box in boxes], axis=1)


def _votes_of_strip(strip: Image.Image) -> npt.NDArray[np.bool_]:
    # Without alpha: a generator marks the colours, and then adds it.
    red, green, blue = np.moveaxis(np.asarray(strip.convert("RGB"), np.float32), 2, 0)
    u = 0.492 * (blue - (0.299 * red + 0.587 * green + 0.114 * blue))
    low = (u[::2, ::2] + u[1::2, ::2] + u[::2, 1::2] + u[1::2, 1::2]) / 2
    rows, columns = (size // 4 for size in low.shape)
    values = low.reshape(rows, 4, columns, 4).swapaxes(1, 2).reshape(rows * columns, 16)[:, 1:]
    # The sum of four offsets, halved.
    largest = [np.abs(values + 2 * offset).max(axis=1) for offset in _OFFSETS]
    return np.asarray(np.array(largest) % _STEP > _STEP / 2)
