import numpy as np
import pytest

from aigid.records import DEFAULT_LABELS
from aigid.simulation.camera import develop, photograph
from aigid.simulation.generators import DECODER_FAMILIES, generate
from aigid.simulation.patch_quantisation import (
    VQ_CODES,
    VQ_PATCH,
    codebook,
    quantise_patches,
)
from aigid.simulation.rendering import render_scene
from aigid.simulation.scene import draw_scene
from aigid.simulation.upsampling import double_bilinear, halve

SIDE = 128


def residual_of(image: np.ndarray) -> np.ndarray:
    """Return the luminance minus the mean of its neighbourhood."""
    luminance = image.mean(axis=2)
    around = sum(
        np.roll(luminance, (row, column), (0, 1)) for row in (-1, 0, 1) for column in (-1, 0, 1)
    )
    return (luminance - around / 9)[4:-4, 4:-4]


def phase_pattern(image: np.ndarray, period: int) -> float:
    """Return how much the mean residual differs between the phases of a grid, in deviations."""
    residual = residual_of(image)
    means = [
        residual[row::period, column::period].mean()
        for row in range(period)
        for column in range(period)
    ]
    return float(np.std(means) / residual.std())


def fine_share(image: np.ndarray) -> float:
    """Return the part of the residual's energy that is in the finest frequencies."""
    spectrum = np.abs(np.fft.fft2(residual_of(image))) ** 2
    frequency = np.abs(np.fft.fftfreq(spectrum.shape[0]))
    fine = np.maximum(frequency[:, None], frequency[None, :]) > 0.375
    return float(spectrum[fine].sum() / spectrum.sum())


def block_correlation(image: np.ndarray) -> float:
    """Return how much larger steps across the borders of blocks of two are than steps inside."""
    step = np.abs(np.diff(image.mean(axis=2), axis=1))
    return float(step[:, 1::2].mean() / step[:, ::2].mean())


def patch_flatness(image: np.ndarray) -> float:
    """Return how much larger steps across the borders of patches are than other steps."""
    step = np.abs(np.diff(image.mean(axis=2), axis=1))
    return float(step[:, VQ_PATCH - 1 :: VQ_PATCH].mean() / step.mean())


@pytest.fixture(scope="module")
def images() -> dict[str, list[np.ndarray]]:
    made: dict[str, list[np.ndarray]] = {name: [] for name in DEFAULT_LABELS}
    for number in range(20):
        scene = draw_scene(np.random.default_rng(number))
        for label, name in enumerate(DEFAULT_LABELS):
            rng = np.random.default_rng([number, label])
            light = render_scene(scene, rng, SIDE, SIDE)
            image = (
                generate(develop(light, rng), name, rng)
                if label
                else develop(photograph(light, rng), rng)
            )
            made[name].append(image)
    return made


def median_of(measure, images: list[np.ndarray], *arguments: int) -> float:
    return float(np.median([measure(image, *arguments) for image in images]))


def test_every_generator_has_a_decoder_family() -> None:
    assert tuple(DECODER_FAMILIES) == DEFAULT_LABELS[1:]


@pytest.mark.parametrize("generator", DEFAULT_LABELS[1:])
def test_generated_images_have_the_scene_s_size_and_brightness(
    images: dict, generator: str
) -> None:
    assert {image.shape for image in images[generator]} == {(SIDE, SIDE, 3)}
    assert {image.dtype for image in images[generator]} == {np.dtype(np.float32)}
    difference = np.mean([image.mean() for image in images[generator]]) - np.mean(
        [p.mean() for p in images["real"]]
    )
    assert abs(difference) < 0.06


@pytest.mark.parametrize("generator", ["sd21", "dalle3"])
def test_uneven_upsampling_leaves_a_grid(images: dict, generator: str) -> None:
    assert median_of(phase_pattern, images[generator], 2) > 5 * median_of(
        phase_pattern, images["real"], 2
    )


def test_transposed_convolution_and_subpixel_shuffle_leave_different_peaks(images: dict) -> None:
    def corner_share(image: np.ndarray) -> float:
        spectrum = np.abs(np.fft.fft2(residual_of(image)))
        half = spectrum.shape[0] // 2
        return float(
            spectrum[half, half] / (spectrum[half, half] + spectrum[half, 0] + spectrum[0, half])
        )

    assert median_of(corner_share, images["sd21"]) < 0.35
    assert median_of(corner_share, images["dalle3"]) > 0.65


def test_nearest_upsampling_leaves_blocks_of_two(images: dict) -> None:
    assert median_of(block_correlation, images["sdxl"]) > 1.5
    assert median_of(block_correlation, images["real"]) == pytest.approx(1, abs=0.15)


def test_bilinear_upsampling_lacks_the_finest_frequencies(images: dict) -> None:
    assert median_of(fine_share, images["sd3"]) < 0.75 * median_of(fine_share, images["real"])


def test_quantised_patches_leave_borders(images: dict) -> None:
    assert median_of(patch_flatness, images["midjourney"]) > 1.2
    assert median_of(patch_flatness, images["real"]) == pytest.approx(1, abs=0.1)


def test_codes_are_unit_vectors_without_a_mean() -> None:
    codes = codebook()
    assert codes.shape == (VQ_CODES, VQ_PATCH**2)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(codes.mean(axis=1), 0, atol=1e-6)


def test_a_flat_image_shows_the_codes_too() -> None:
    flat = np.full((32, 32, 3), 0.4, np.float32)
    assert quantise_patches(flat, 1.0).std() > 0.005


def test_halving_undoes_bilinear_doubling_of_flat_and_linear_images() -> None:
    ramp = np.repeat(np.arange(16, dtype=np.float32)[None, :, None], 16, axis=0)
    np.testing.assert_allclose(halve(double_bilinear(ramp))[:, 1:-1], ramp[:, 1:-1], atol=1e-5)
