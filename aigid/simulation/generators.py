"""Five families of decoders that stand for generators, each with the trace of its upsampling.

A generated image carries traces of its network's upsampling, whatever it shows. This module passes
a scene through such a decoder without training a network, as AutoGAN does (Zhang, Karaman and Chang
2019). The families leave the spectral traces that Durall, Keuper and Keuper (2020) and Odena,
Dumoulin and Olah (2016) describe:

    sd21        transposed convolution, kernel 3 and stride 2: uneven overlap, hence a checkerboard
    sdxl        nearest-neighbour upsampling and a 3x3 convolution: small flat blocks
    sd3         bilinear upsampling and a 3x3 convolution: weak high frequencies, invented detail
    dalle3      sub-pixel shuffle: a filter for each phase, hence a grid of period 4
    midjourney  vector-quantised patches: content snapped to a small codebook

The names only stand for the classes of `Label_B`: the models of these names leave other traces.
The weights of a decoder are constant, as those of a trained model are. The strength of its trace is
drawn for each image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from aigid.simulation.camera import draw_noise_level
from aigid.simulation.light import Light, blur, power_noise
from aigid.simulation.patch_quantisation import quantise_patches
from aigid.simulation.upsampling import (
    Upsampler,
    double_bilinear,
    halve,
    upsample_bilinear,
    upsample_nearest,
    upsample_plain,
    upsample_subpixel,
    upsample_transposed,
)


@dataclass(frozen=True)
class DecoderFamily:
    """An upsampler, the range of the finest detail it restores, and whether it quantises patches.

    1 is all of the detail.
    """

    upsample: Upsampler
    detail_kept: tuple[float, float]
    quantised: bool = False


DECODER_FAMILIES: Mapping[str, DecoderFamily] = MappingProxyType(
    {
        "sd21": DecoderFamily(upsample_transposed, (0.3, 0.6)),
        "sdxl": DecoderFamily(upsample_nearest, (0.2, 0.5)),
        "sd3": DecoderFamily(upsample_bilinear, (0.0, 0.1)),
        "dalle3": DecoderFamily(upsample_subpixel, (0.3, 0.6)),
        "midjourney": DecoderFamily(upsample_plain, (0.7, 1.0), quantised=True),
    }
)
"""The decoder family that stands for each generator of `Label_B`."""


def generate(image: Light, generator: str, rng: np.random.Generator) -> Light:
    """Return display values [height, width, 3] as the decoder of `generator` would make them.

    The sides of `image` must be divisible by 8. The image is encoded to a quarter of its size; the
    decoder doubles it twice, and restores part of the detail at each scale.
    """
    family = DECODER_FAMILIES[generator]
    strength = float(rng.uniform(0.75, 1.4))
    half = halve(image)
    quarter = halve(half)
    detail_half, detail_full = half - double_bilinear(quarter), image - double_bilinear(half)
    latent = (
        family.upsample(quarter, 0.6 * strength, rng)
        + np.float32(rng.uniform(0.7, 1.0)) * detail_half
    )
    latent = _invent_detail(latent, rng)
    result = (
        family.upsample(latent, strength, rng)
        + np.float32(rng.uniform(*family.detail_kept)) * detail_full
    )
    if family.quantised:
        result = quantise_patches(result, strength)
    return _add_grain(result, rng)


def _invent_detail(latent: Light, rng: np.random.Generator) -> Light:
    """Add the fine detail that a network invents at the scale of its features."""
    noise = power_noise(rng, latent.shape[:2], 0.3) * np.float32(rng.uniform(0.006, 0.018))
    return latent + noise[..., None] * np.sqrt(np.maximum(latent, 0.02))


def _add_grain(image: Light, rng: np.random.Generator) -> Light:
    """Add as much noise as photographs have.

    Its channels share a part of it, and it is blurred: demosaicing leaves noise like that.
    """
    level = np.float32(0.8 * draw_noise_level(rng))
    noise = rng.standard_normal(image.shape, np.float32)
    noise += rng.standard_normal((*image.shape[:2], 1), np.float32)
    return image + level * blur(noise, float(rng.uniform(0.3, 0.6)))
