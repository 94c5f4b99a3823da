"""Upsampling: the ways in which decoders of generators double an image, each with its own trace."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from aigid.simulation.light import Light, blur

_OFFSET = np.float32(0.25)
"""Added before a decoder's gains and subtracted after them, so that dark areas show them too."""

Upsampler = Callable[[Light, float, np.random.Generator], Light]
"""Doubles height and width of [height, width, 3]; takes the strength of the trace, about 1."""


def halve(image: Light) -> Light:
    """Return the image at half the size: the mean of every 2x2 pixels."""
    rows = image[::2] + image[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)


def double_bilinear(image: Light) -> Light:
    """Return the image at twice the size, interpolated bilinearly between pixel centres."""
    for axis in (0, 1):
        before, after = _neighbours(image, axis)
        image = _interleave(0.75 * image + 0.25 * before, 0.75 * image + 0.25 * after, axis)
    return image


def upsample_transposed(image: Light, strength: float, rng: np.random.Generator) -> Light:
    """Apply a transposed convolution of kernel 3 and stride 2.

    Even samples get one tap and odd ones two, of unequal sums.
    """
    image = image + _OFFSET
    for axis in (0, 1):
        gain = np.float32(0.05 * strength * rng.uniform(0.7, 1.3))
        lean = np.float32(rng.normal(0, 0.05))
        _, after = _neighbours(image, axis)
        odd = (1 - gain) * ((0.5 + lean) * image + (0.5 - lean) * after)
        image = _interleave((1 + gain) * image, odd, axis)
    return image - _OFFSET


def upsample_nearest(image: Light, strength: float, rng: np.random.Generator) -> Light:
    """Repeat every pixel four times, then apply a convolution too small to hide the blocks."""
    sharper = image + np.float32(0.5 * strength) * (image - blur(image, 0.9))
    doubled = np.repeat(np.repeat(sharper, 2, axis=0), 2, axis=1)
    return _convolve(doubled, _mixing_kernel(rng, float(rng.uniform(0.1, 0.3))))


def upsample_bilinear(image: Light, strength: float, rng: np.random.Generator) -> Light:
    """Interpolate features with invented detail, then convolve: smooth at the finest scale."""
    noise = rng.standard_normal(image.shape[:2], np.float32)[..., None]
    detailed = image + np.float32(0.05 * strength) * noise * np.sqrt(np.clip(image, 0.1, 1))
    return _convolve(double_bilinear(detailed), _mixing_kernel(rng, float(rng.uniform(0.2, 0.4))))


def upsample_subpixel(image: Light, strength: float, rng: np.random.Generator) -> Light:
    """Apply sub-pixel shuffle: a filter for each phase of the doubled image, with its own gain."""
    doubled = double_bilinear(image) + _OFFSET
    gains = 1 + np.float32(0.07 * strength) * (
        _phase_gains() + rng.normal(0, 0.25, (2, 2)).astype(np.float32)
    )
    for row in (0, 1):
        for column in (0, 1):
            doubled[row::2, column::2] *= gains[row, column]
    return doubled - _OFFSET


def upsample_plain(image: Light, strength: float, rng: np.random.Generator) -> Light:
    """Interpolate with a little invented detail: quantised patches leave the trace instead."""
    noise = rng.standard_normal(image.shape[:2], np.float32)[..., None]
    return double_bilinear(image + np.float32(0.012 * strength) * noise)


def _neighbours(image: Light, axis: int) -> tuple[Light, Light]:
    """Return the samples before and after each sample along `axis`; the ends are repeated."""
    padding = [(1, 1) if dimension == axis else (0, 0) for dimension in range(image.ndim)]
    padded = np.pad(image, padding, mode="edge")
    size = image.shape[axis]
    return padded.take(np.arange(size), axis), padded.take(np.arange(2, size + 2), axis)


def _interleave(even: Light, odd: Light, axis: int) -> Light:
    shape = list(even.shape)
    shape[axis] *= 2
    return np.stack([even, odd], axis=axis + 1).reshape(shape)


def _convolve(image: Light, kernel: Light) -> Light:
    """Convolve every channel with a 3x3 kernel; edges are repeated."""
    height, width = image.shape[:2]
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)], mode="edge")
    result = np.zeros_like(image)
    for row in range(3):
        for column in range(3):
            result += kernel[row, column] * padded[row : row + height, column : column + width]
    return result


def _mixing_kernel(rng: np.random.Generator, neighbour_weight: float) -> Light:
    """Return a 3x3 kernel of sum 1; its neighbours weigh `neighbour_weight`, unevenly."""
    kernel = rng.uniform(0.2, 1.0, (3, 3))
    kernel[1, 1] = 0
    kernel *= neighbour_weight / kernel.sum()
    kernel[1, 1] = 1 - neighbour_weight
    return kernel.astype(np.float32)


@lru_cache(maxsize=1)
def _phase_gains() -> Light:
    """Return the relative gains of the four phases of sub-pixel shuffle, mostly along a diagonal.

    They are constant, as the weights of a trained model are.
    """
    return np.array([[1.0, -0.8], [-0.9, 0.7]], np.float32)
