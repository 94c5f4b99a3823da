"""Vector quantisation: patches of an image, snapped to the codes of a small codebook."""

from functools import lru_cache

import numpy as np

from aigid.simulation.light import Light

VQ_PATCH = 8
"""The side of a patch, in pixels."""

VQ_CODES = 40
"""The number of codes in the codebook."""


@lru_cache(maxsize=1)
def codebook() -> Light:
    """Return the codes [codes, patch * patch], the same for every image.

    They are smooth edges and ripples, of unit norm and zero mean.
    """
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


def quantise_patches(image: Light, strength: float) -> Light:
    """Return the image with the luminance of each patch blended with that of its nearest code."""
    height, width = image.shape[:2]
    rows, columns = height // VQ_PATCH, width // VQ_PATCH
    luminance = image @ np.array([0.299, 0.587, 0.114], np.float32)
    patches = (
        luminance.reshape(rows, VQ_PATCH, columns, VQ_PATCH)
        .swapaxes(1, 2)
        .reshape(rows * columns, -1)
    )
    change: Light = (
        (_nearest_codes(patches) - patches)
        .reshape(rows, columns, VQ_PATCH, VQ_PATCH)
        .swapaxes(1, 2)
        .reshape(height, width)
    )
    blend = np.float32(min(0.6 * strength, 0.85))
    snapped: Light = image + blend * change[..., None]
    return snapped


def _nearest_codes(patches: Light) -> Light:
    """Return each patch [patches, patch * patch] as its rounded mean and its nearest code."""
    means = patches.mean(axis=1, keepdims=True)
    scores = (patches - means) @ codebook().T
    best = np.abs(scores).argmax(axis=1)
    gains = np.take_along_axis(scores, best[:, None], axis=1)
    # A minimum gain: a flat patch must show its code too.
    gains = np.sign(gains) * np.maximum(np.abs(gains), np.float32(0.2))
    step = np.float32(0.045)
    quantised: Light = np.round(means / step) * step + gains * codebook()[best]
    return quantised
