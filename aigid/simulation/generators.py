"""Five families of generator decoders, each with the trace that its way of upsampling leaves.

Generated pictures betray the upsampling of the network that made them, whatever they show: this module passes a
scene through such a decoder without training a network, as AutoGAN does (Zhang, Karaman and Chang 2019), and its
families leave the spectral traces that Durall, Keuper and Keuper (2020) and Odena, Dumoulin and Olah (2016) describe:

    sd21        transposed convolution, kernel 3 and stride 2: uneven overlap, hence a checkerboard
    sdxl        nearest-neighbour upsampling and a 3x3 convolution: small flat blocks
    sd3         bilinear upsampling and a 3x3 convolution: too little at high frequencies, invented detail below
    dalle3      sub-pixel shuffle: each phase has a filter of its own, hence a period-4 grid
    midjourney  vector-quantised patches: contents snapped to a small codebook

The names are stand-ins for the classes of `Label_B`: the models of these names leave other traces than these.
A decoder's weights are fixed, as those of a trained model are; how strongly they show is drawn for each picture.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from aigid.simulation.camera import blur, draw_noise_level
from aigid.simulation.scenes import Light, power_noise

_FOOT = np.float32(0.25)
"""Added before and taken away after a decoder's gains, so that its pattern shows in dark places too."""

VQ_PATCH = 8
VQ_CODES = 40

Upsampler = Callable[[Light, float, np.random.Generator], Light]
"""Doubles height and width of [height, width, 3]; its second argument is the strength of the trace, about 1."""


def generate(picture: Light, source: str, rng: np.random.Generator) -> Light:
    """The display values [height, width, 3] as the decoder of `source` would make them; sides divisible by 8.

    The picture is encoded to quarter size; the decoder doubles it twice, with part of the detail of each scale.
    """
    decoder = DECODERS[source]
    strength = float(rng.uniform(0.75, 1.4))
    half = halve(picture)
    quarter = halve(half)
    detail_half, detail_full = half - double_bilinear(quarter), picture - double_bilinear(half)
    latent = (
        decoder.upsample(quarter, 0.6 * strength, rng)
        + np.float32(rng.uniform(0.7, 1.0)) * detail_half
    )
    latent = _invent_detail(latent, rng)
    result = (
        decoder.upsample(latent, strength, rng)
        + np.float32(rng.uniform(*decoder.detail_kept)) * detail_full
    )
    if decoder.quantised:
        result = quantise_patches(result, strength)
    return _add_grain(result, rng)


def _invent_detail(latent: Light, rng: np.random.Generator) -> Light:
    """Fine detail that the network makes up at the scale of its features."""
    noise = power_noise(rng, latent.shape[:2], 0.3) * np.float32(rng.uniform(0.006, 0.018))
    return latent + noise[..., None] * np.sqrt(np.maximum(latent, 0.02))


def _add_grain(picture: Light, rng: np.random.Generator) -> Light:
    """Noise as much as that of photographs, in part shared by the channels and blurred, as demosaicing leaves it."""
    level = np.float32(0.8 * draw_noise_level(rng))
    noise = rng.standard_normal(picture.shape, np.float32)
    noise += rng.standard_normal((*picture.shape[:2], 1), np.float32)
    return picture + level * blur(noise, float(rng.uniform(0.3, 0.6)))


def halve(picture: Light) -> Light:
    """Mean of every 2x2 pixels."""
    rows = picture[::2] + picture[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)


def _neighbours(picture: Light, axis: int) -> tuple[Light, Light]:
    """The samples before and after each along `axis`, the ends repeated."""
    padding = [(1, 1) if dimension == axis else (0, 0) for dimension in range(picture.ndim)]
    padded = np.pad(picture, padding, mode="edge")
    size = picture.shape[axis]
    return padded.take(np.arange(size), axis), padded.take(np.arange(2, size + 2), axis)


def _interleave(even: Light, odd: Light, axis: int) -> Light:
    shape = list(even.shape)
    shape[axis] *= 2
    return np.stack([even, odd], axis=axis + 1).reshape(shape)


def double_bilinear(picture: Light) -> Light:
    """Twice the size, by bilinear interpolation between pixel centres."""
    for axis in (0, 1):
        before, after = _neighbours(picture, axis)
        picture = _interleave(0.75 * picture + 0.25 * before, 0.75 * picture + 0.25 * after, axis)
    return picture


def _convolve(picture: Light, kernel: Light) -> Light:
    """A 3x3 convolution of every channel, edges repeated."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, [(1, 1), (1, 1), (0, 0)], mode="edge")
    result = np.zeros_like(picture)
    for row in range(3):
        for column in range(3):
            result += kernel[row, column] * padded[row : row + height, column : column + width]
    return result


def _mixing_kernel(rng: np.random.Generator, share: float) -> Light:
    """A 3x3 kernel of sum 1 that takes about `share` of its weight from the neighbours, unevenly."""
    kernel = rng.uniform(0.2, 1.0, (3, 3))
    kernel[1, 1] = 0
    kernel *= share / kernel.sum()
    kernel[1, 1] = 1 - share
    return kernel.astype(np.float32)


def upsample_transposed(picture: Light, strength: float, rng: np.random.Generator) -> Light:
    """Transposed convolution of kernel 3 and stride 2: even samples get one tap, odd ones two, of unequal sums."""
    picture = picture + _FOOT
    for axis in (0, 1):
        gain = np.float32(0.05 * strength * rng.uniform(0.7, 1.3))
        lean = np.float32(rng.normal(0, 0.05))
        _, after = _neighbours(picture, axis)
        odd = (1 - gain) * ((0.5 + lean) * picture + (0.5 - lean) * after)
        picture = _interleave((1 + gain) * picture, odd, axis)
    return picture - _FOOT


def upsample_nearest(picture: Light, strength: float, rng: np.random.Generator) -> Light:
    """Every pixel four times, then a convolution too small to hide the blocks."""
    sharper = picture + np.float32(0.5 * strength) * (picture - blur(picture, 0.9))
    doubled = np.repeat(np.repeat(sharper, 2, axis=0), 2, axis=1)
    return _convolve(doubled, _mixing_kernel(rng, float(rng.uniform(0.1, 0.3))))


def upsample_bilinear(picture: Light, strength: float, rng: np.random.Generator) -> Light:
    """Bilinear interpolation of features with made-up detail, then a convolution: smooth at the finest scale."""
    noise = rng.standard_normal(picture.shape[:2], np.float32)[..., None]
    detailed = picture + np.float32(0.05 * strength) * noise * np.sqrt(np.clip(picture, 0.1, 1))
    return _convolve(double_bilinear(detailed), _mixing_kernel(rng, float(rng.uniform(0.2, 0.4))))


@lru_cache(maxsize=1)
def _phase_gains() -> Light:
    """The relative gains of the four phases of sub-pixel shuffle, fixed as weights are: mostly along one diagonal."""
    return np.array([[1.0, -0.8], [-0.9, 0.7]], np.float32)


def upsample_subpixel(picture: Light, strength: float, rng: np.random.Generator) -> Light:
    """Sub-pixel shuffle: four filters, one for each phase of the doubled picture, whose gains differ."""
    doubled = double_bilinear(picture) + _FOOT
    gains = 1 + np.float32(0.07 * strength) * (
        _phase_gains() + rng.normal(0, 0.25, (2, 2)).astype(np.float32)
    )
    for row in (0, 1):
        for column in (0, 1):
            doubled[row::2, column::2] *= gains[row, column]
    return doubled - _FOOT


def upsample_plain(picture: Light, strength: float, rng: np.random.Generator) -> Light:
    """Bilinear and a little made-up detail: the trace comes from the quantised patches."""
    noise = rng.standard_normal(picture.shape[:2], np.float32)[..., None]
    return double_bilinear(picture + np.float32(0.012 * strength) * noise)


@lru_cache(maxsize=1)
def codebook() -> Light:
    """The codes [codes, patch * patch]: smooth edges and ripples of unit norm and zero mean, the same in every picture."""
    rng = np.random.default_rng(8)
    grid = (np.arange(VQ_PATCH) - (VQ_PATCH - 1) / 2) / VQ_PATCH
    codes = []
    for index in range(VQ_CODES):
        angle = np.pi * 2 * index / VQ_CODES * 3
        line = (
            np.cos(angle) * grid[None, :] + np.sin(angle) * grid[:, None] + rng.uniform(-0.3, 0.3)
        )
        wave = np.tanh(6 * line) if index % 2 else np.cos(2 * np.pi * rng.uniform(0.8, 2.0) * line)
        wave = wave - wave.mean()
        codes.append((wave / np.linalg.norm(wave)).ravel())
    return np.array(codes, np.float32)


def quantise_patches(picture: Light, strength: float) -> Light:
    """Luminance patches snapped to the nearest code and a few gains, blended with what they were."""
    height, width = picture.shape[:2]
    rows, columns = height // VQ_PATCH, width // VQ_PATCH
    luminance = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    patches = (
        luminance.reshape(rows, VQ_PATCH, columns, VQ_PATCH)
        .swapaxes(1, 2)
        .reshape(rows * columns, -1)
    )
    means = patches.mean(axis=1, keepdims=True)
    scores = (patches - means) @ codebook().T
    best = np.abs(scores).argmax(axis=1)
    gains = np.take_along_axis(scores, best[:, None], axis=1)
    # Never no gain at all: a flat patch, too, shows the code that it was snapped to.
    gains = np.sign(gains) * np.maximum(np.abs(gains), np.float32(0.2))
    step = np.float32(0.045)
    quantised = np.round(means / step) * step + gains * codebook()[best]
    change: Light = (
        (quantised - patches)
        .reshape(rows, columns, VQ_PATCH, VQ_PATCH)
        .swapaxes(1, 2)
        .reshape(height, width)
    )
    blend = np.float32(min(0.6 * strength, 0.85))
    snapped: Light = picture + blend * change[..., None]
    return snapped


@dataclass(frozen=True)
class Decoder:
    """A family: its upsampler, how much of the finest detail it brings back, and whether its patches are quantised."""

    upsample: Upsampler
    detail_kept: tuple[float, float]
    quantised: bool = False


DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "sd21": Decoder(upsample_transposed, (0.3, 0.6)),
        "sdxl": Decoder(upsample_nearest, (0.2, 0.5)),
        "sd3": Decoder(upsample_bilinear, (0.0, 0.1)),
        "dalle3": Decoder(upsample_subpixel, (0.3, 0.6)),
        "midjourney": Decoder(upsample_plain, (0.7, 1.0), quantised=True),
    }
)
"""Which family stands for which class of `Label_B`."""
