import numpy as np
import pytest

from aigid.simulation.camera import (
    NOISE_RANGE,
    demosaic_bilinear,
    demosaic_malvar,
    develop,
    draw_noise_level,
    photograph,
    sharpen,
)
from aigid.simulation.light import blur

PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize("demosaic", [demosaic_bilinear, demosaic_malvar])
@pytest.mark.parametrize("phase", PHASES)
def test_demosaicing_gives_gray_ramps_back(demosaic, phase: tuple[int, int]) -> None:
    y, x = np.mgrid[0:16, 0:20].astype(np.float32)
    ramp = 0.1 + 0.01 * x + 0.02 * y
    image = demosaic(ramp, phase)
    assert image.dtype == np.float32
    np.testing.assert_allclose(
        image[2:-2, 2:-2], np.repeat(ramp[2:-2, 2:-2, None], 3, axis=2), atol=1e-5
    )


@pytest.mark.parametrize("demosaic", [demosaic_bilinear, demosaic_malvar])
@pytest.mark.parametrize("phase", PHASES)
def test_demosaicing_gives_flat_colours_back(demosaic, phase: tuple[int, int]) -> None:
    raw = np.full((12, 12), 0.5, np.float32)
    raw[phase[0] :: 2, phase[1] :: 2] = 0.1
    raw[1 - phase[0] :: 2, 1 - phase[1] :: 2] = 0.9
    image = demosaic(raw, phase)
    np.testing.assert_allclose(
        image[2:-2, 2:-2], np.broadcast_to([0.1, 0.5, 0.9], (8, 8, 3)), atol=1e-6
    )


def test_a_photograph_is_close_to_the_scene_but_noisy() -> None:
    light = np.full((96, 96, 3), 0.3, np.float32)
    image = photograph(light, np.random.default_rng(0))
    assert image.dtype == np.float32
    assert image.shape == light.shape
    assert image.mean() == pytest.approx(0.28, abs=0.03)
    centre = image[40:56, 40:56]
    assert 0.001 < centre.std() < 0.03


def test_noise_levels_stay_in_their_range() -> None:
    rng = np.random.default_rng(0)
    levels = [draw_noise_level(rng) for _ in range(500)]
    assert NOISE_RANGE[0] <= min(levels) < max(levels) <= NOISE_RANGE[1]


def test_development_is_monotonous_and_in_range() -> None:
    ramp = np.repeat(np.linspace(0, 2, 300, dtype=np.float32)[None, :, None], 3, axis=2)
    developed = develop(ramp, np.random.default_rng(1))
    assert developed.min() == 0
    assert developed.max() == pytest.approx(1)
    assert (np.diff(developed[0, :, 0]) >= 0).all()


def test_blur_keeps_the_mean_and_sharpening_undoes_some_of_it() -> None:
    image = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    soft = blur(image, 0.6)
    assert soft.mean() == pytest.approx(image.mean(), abs=5e-3)
    assert soft.std() < image.std()
    assert sharpen(soft, np.random.default_rng(1)).std() > soft.std()
