"""Arrays of light, and the two operations on them that scenes, camera and generators share."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Light = npt.NDArray[np.float32]
"""An array of float32: an image is [height, width, 3], a field [height, width]."""


def blur(image: Light, sigma: float) -> Light:
    """Return the image after a Gaussian blur with `sigma` below 1 pixel.

    The kernel has three samples; edges are repeated.
    """
    side = np.float32(np.exp(-0.5 / max(sigma, 0.05) ** 2))
    centre, side = 1 / (1 + 2 * side), side / (1 + 2 * side)
    padding = [(1, 1), (0, 0)] + [(0, 0)] * (image.ndim - 2)
    rows = np.pad(image, padding, mode="edge")
    image = centre * rows[1:-1] + side * (rows[:-2] + rows[2:])
    columns = np.pad(image, [padding[1], padding[0], *padding[2:]], mode="edge")
    return centre * columns[:, 1:-1] + side * (columns[:, :-2] + columns[:, 2:])


def power_noise(rng: np.random.Generator, shape: tuple[int, int], power: float) -> Light:
    """Return a random field [height, width] of unit variance.

    Its spectral amplitude falls as frequency to the power of -`power`.
    """
    amplitude = _power_amplitude(shape, power)
    spectrum = (
        rng.standard_normal((*amplitude.shape, 2), np.float32).view(np.complex64)[..., 0]
        * amplitude
    )
    noise: Light = np.fft.irfft2(spectrum, s=shape).astype(np.float32, copy=False)
    noise *= np.float32(1 / max(float(noise.std()), 1e-6))
    return noise


@lru_cache(maxsize=64)
def _power_amplitude(shape: tuple[int, int], power: float) -> Light:
    rows = np.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    columns = np.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1.0
    amplitude = frequency**-power
    amplitude[0, 0] = 0.0
    amplitude *= np.sqrt(shape[0] * shape[1] / (2 * np.square(amplitude).sum()))
    return amplitude.astype(np.float32)
