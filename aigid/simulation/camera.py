"""The camera that takes the simulated photographs: lens, Bayer sensor and demosaicing.

Also the development to display values, which photographs and generated images share. Demosaicing is
bilinear, or the gradient-corrected linear interpolation of Malvar, He and Cutler (2004).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from aigid.simulation.light import Light, blur

NOISE_RANGE = (0.003, 0.018)
"""The standard deviation of noise at mid grey, as a fraction of full scale.

It is drawn log-uniformly, from the same range for photographs and generated images.
"""

_CURVE_STEPS = 8192


def draw_noise_level(rng: np.random.Generator) -> float:
    """Return the noise level of an image, from the one distribution for all rows."""
    low, high = NOISE_RANGE
    return float(low * (high / low) ** rng.random())


def photograph(light: Light, rng: np.random.Generator) -> Light:
    """Return linear light [height, width, 3] after a lens, a sensor and demosaicing."""
    sensed = _through_lens(light, rng)
    gains = np.array([rng.uniform(1.5, 2.2), 1.0, rng.uniform(1.3, 1.9)], np.float32)
    phase = (int(rng.integers(2)), int(rng.integers(2)))
    raw = _mosaic(sensed, gains, phase)
    level = draw_noise_level(rng)
    variance = np.float32(level**2) * (np.float32(0.2) + 4 * raw)
    raw += rng.standard_normal(raw.shape, np.float32) * np.sqrt(variance)
    _balance(raw, gains, phase)
    demosaic = demosaic_bilinear if rng.random() < 0.3 else demosaic_malvar
    return np.clip(demosaic(raw, phase), 0, 1)


def _through_lens(light: Light, rng: np.random.Generator) -> Light:
    """Apply vignetting, lateral chromatic aberration and a small Gaussian blur.

    The aberration magnifies red and blue differently.
    """
    height, width = light.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    vignette = 1 - np.float32(rng.uniform(0, 0.18)) * (x * x + y * y)
    sensed = light * vignette[..., None]
    for channel in (0, 2):
        sensed[..., channel] = _magnify(sensed[..., channel], 1 + float(rng.normal(0, 0.0012)))
    return blur(sensed, float(rng.uniform(0.3, 0.55)))


def _magnify(plane: Light, scale: float) -> Light:
    height, width = plane.shape
    left, top = width / 2 * (1 - scale), height / 2 * (1 - scale)
    matrix = (scale, 0.0, left, 0.0, scale, top)
    moved = Image.fromarray(plane).transform(
        (width, height), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BICUBIC
    )
    # The transform sets pixels that it would read from outside to 0: these keep their old light.
    warped = np.array(moved, np.float32)
    return np.where(warped > 0, warped, plane)


def _colour_at(row: int, column: int, phase: tuple[int, int]) -> int:
    """Return the channel that a site of the mosaic measures.

    It is red where both parities match `phase`, blue where neither does, else green.
    """
    matches = (row % 2 == phase[0]) + (column % 2 == phase[1])
    return (2, 1, 0)[matches]


def _mosaic(sensed: Light, gains: Light, phase: tuple[int, int]) -> Light:
    raw = np.empty(sensed.shape[:2], np.float32)
    for row in (0, 1):
        for column in (0, 1):
            channel = _colour_at(row, column, phase)
            raw[row::2, column::2] = (
                np.minimum(sensed[row::2, column::2, channel], 1) / gains[channel]
            )
    return raw


def _balance(raw: Light, gains: Light, phase: tuple[int, int]) -> None:
    """Balance white in place: undo the unequal sensitivities of the sensor's channels."""
    for row in (0, 1):
        for column in (0, 1):
            raw[row::2, column::2] *= gains[_colour_at(row, column, phase)]


def demosaic_bilinear(raw: Light, phase: tuple[int, int]) -> Light:
    """Return float32 [height, width, 3] from raw samples, interpolated bilinearly.

    Each missing sample is the mean of its nearest neighbours of that colour.
    """
    around = np.pad(raw, 1, mode="reflect")
    across = (around[1:-1, :-2] + around[1:-1, 2:]) / 2
    along = (around[:-2, 1:-1] + around[2:, 1:-1]) / 2
    corners = (around[:-2, :-2] + around[:-2, 2:] + around[2:, :-2] + around[2:, 2:]) / 4
    return _assemble(raw, phase, ((across + along) / 2, across, along, corners))


def demosaic_malvar(raw: Light, phase: tuple[int, int]) -> Light:
    """Return float32 [height, width, 3] from raw samples by the method of Malvar et al. (2004).

    The bilinear estimate is corrected by the Laplacian of the colour that was measured.
    """
    far = np.pad(raw, 2, mode="reflect")
    across = far[2:-2, 1:-3] + far[2:-2, 3:-1]
    along = far[1:-3, 2:-2] + far[3:-1, 2:-2]
    corners = far[1:-3, 1:-3] + far[1:-3, 3:-1] + far[3:-1, 1:-3] + far[3:-1, 3:-1]
    far_across = far[2:-2, :-4] + far[2:-2, 4:]
    far_along = far[:-4, 2:-2] + far[4:, 2:-2]
    green = (4 * raw + 2 * (across + along) - far_across - far_along) / 8
    beside = (5 * raw + 4 * across - corners - far_across + far_along / 2) / 8
    above = (5 * raw + 4 * along - corners - far_along + far_across / 2) / 8
    diagonal = (6 * raw + 2 * corners - 1.5 * (far_across + far_along)) / 8
    return _assemble(raw, phase, (green, beside, above, diagonal))


def _assemble(
    raw: Light, phase: tuple[int, int], estimates: Sequence[npt.NDArray[np.floating[Any]]]
) -> Light:
    """Combine measured and estimated samples.

    The four estimates use the neighbours all around, beside, above and below, and diagonal.
    """
    cross, beside, above, diagonal = estimates
    image = np.empty((*raw.shape, 3), np.float32)
    for row in (0, 1):
        for column in (0, 1):
            site = (slice(row, None, 2), slice(column, None, 2))
            own = _colour_at(row, column, phase)
            image[(*site, own)] = raw[site]
            if own == 1:
                across_channel = 0 if row % 2 == phase[0] else 2
                image[(*site, across_channel)] = beside[site]
                image[(*site, 2 - across_channel)] = above[site]
            else:
                image[(*site, 1)] = cross[site]
                image[(*site, 2 - own)] = diagonal[site]
    return image


@lru_cache(maxsize=1)
def _srgb_curve() -> Light:
    linear = np.linspace(0, 1, _CURVE_STEPS)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return curve.astype(np.float32)


def develop(linear: Light, rng: np.random.Generator) -> Light:
    """Return display values in [0, 1] from linear light: exposure, sRGB gamma, an S-curve."""
    exposure, contrast = rng.uniform(0.85, 1.3), rng.uniform(0.0, 0.5)
    curve = _srgb_curve()
    curve = (1 - np.float32(contrast)) * curve + np.float32(contrast) * curve * curve * (
        3 - 2 * curve
    )
    steps = np.clip(linear * np.float32(exposure * (_CURVE_STEPS - 1)), 0, _CURVE_STEPS - 1).astype(
        np.uint16
    )
    developed: Light = curve[steps]
    return developed


def sharpen(image: Light, rng: np.random.Generator) -> Light:
    """Apply mild unsharp masking of a random strength."""
    amount = np.float32(rng.uniform(0.0, 0.5))
    return image + amount * (image - blur(image, 0.8))
