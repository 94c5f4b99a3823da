import numpy as np
import pytest

from aigid.records import GENERATORS, SOURCES
from aigid.simulation.camera import develop, photograph
from aigid.simulation.generators import (
    DECODERS,
    VQ_CODES,
    VQ_PATCH,
    codebook,
    double_bilinear,
    generate,
    halve,
    quantise_patches,
)
from aigid.simulation.scenes import draw_scene, render_scene

SIDE = 128


def residual_of(picture: np.ndarray) -> np.ndarray:
    """Luminance without what its eight neighbours tell."""
    luminance = picture.mean(axis=2)
    around = sum(
        np.roll(luminance, (row, column), (0, 1)) for row in (-1, 0, 1) for column in (-1, 0, 1)
    )
    return (luminance - around / 9)[4:-4, 4:-4]


def phase_pattern(picture: np.ndarray, period: int) -> float:
    """How much the mean residual differs between the phases of a grid, relative to the residual's deviation."""
    residual = residual_of(picture)
    means = [
        residual[row::period, column::period].mean()
        for row in range(period)
        for column in range(period)
    ]
    return float(np.std(means) / residual.std())


def fine_share(picture: np.ndarray) -> float:
    """The finest frequencies' share of the residual's energy."""
    spectrum = np.abs(np.fft.fft2(residual_of(picture))) ** 2
    frequency = np.abs(np.fft.fftfreq(spectrum.shape[0]))
    fine = np.maximum(frequency[:, None], frequency[None, :]) > 0.375
    return float(spectrum[fine].sum() / spectrum.sum())


def block_correlation(picture: np.ndarray) -> float:
    """How much more alike neighbours are inside a block of two than across its border."""
    step = np.abs(np.diff(picture.mean(axis=2), axis=1))
    return float(step[:, 1::2].mean() / step[:, ::2].mean())


def patch_flatness(picture: np.ndarray) -> float:
    """How much larger steps across the borders of patches are than steps inside."""
    step = np.abs(np.diff(picture.mean(axis=2), axis=1))
    return float(step[:, VQ_PATCH - 1 :: VQ_PATCH].mean() / step.mean())


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[np.ndarray]]:
    made: dict[str, list[np.ndarray]] = {source: [] for source in SOURCES}
    for number in range(20):
        scene = draw_scene(np.random.default_rng(number))
        for label, source in enumerate(SOURCES):
            rng = np.random.default_rng([number, label])
            light = render_scene(scene, rng, SIDE, SIDE)
            picture = (
                generate(develop(light, rng), source, rng)
                if label
                else develop(photograph(light, rng), rng)
            )
            made[source].append(picture)
    return made


def median_of(measure, pictures: list[np.ndarray], *arguments: int) -> float:
    return float(np.median([measure(picture, *arguments) for picture in pictures]))


def test_there_is_a_decoder_for_every_generator() -> None:
    assert tuple(DECODERS) == GENERATORS


@pytest.mark.parametrize("source", GENERATORS)
def test_generated_pictures_have_the_scene_s_size_and_brightness(
    pictures: dict, source: str
) -> None:
    assert {picture.shape for picture in pictures[source]} == {(SIDE, SIDE, 3)}
    assert {picture.dtype for picture in pictures[source]} == {np.dtype(np.float32)}
    difference = np.mean([picture.mean() for picture in pictures[source]]) - np.mean(
        [p.mean() for p in pictures["real"]]
    )
    assert abs(difference) < 0.06


@pytest.mark.parametrize("source", ["sd21", "dalle3"])
def test_uneven_upsampling_leaves_a_grid(pictures: dict, source: str) -> None:
    assert median_of(phase_pattern, pictures[source], 2) > 5 * median_of(
        phase_pattern, pictures["real"], 2
    )


def test_transposed_convolution_and_subpixel_shuffle_leave_different_peaks(pictures: dict) -> None:
    def corner_share(picture: np.ndarray) -> float:
        spectrum = np.abs(np.fft.fft2(residual_of(picture)))
        half = spectrum.shape[0] // 2
        return float(
            spectrum[half, half] / (spectrum[half, half] + spectrum[half, 0] + spectrum[0, half])
        )

    assert median_of(corner_share, pictures["sd21"]) < 0.35
    assert median_of(corner_share, pictures["dalle3"]) > 0.65


def test_nearest_upsampling_leaves_blocks_of_two(pictures: dict) -> None:
    assert median_of(block_correlation, pictures["sdxl"]) > 1.5
    assert median_of(block_correlation, pictures["real"]) == pytest.approx(1, abs=0.15)


def test_bilinear_upsampling_lacks_the_finest_frequencies(pictures: dict) -> None:
    assert median_of(fine_share, pictures["sd3"]) < 0.75 * median_of(fine_share, pictures["real"])


def test_quantised_patches_leave_borders(pictures: dict) -> None:
    assert median_of(patch_flatness, pictures["midjourney"]) > 1.2
    assert median_of(patch_flatness, pictures["real"]) == pytest.approx(1, abs=0.1)


def test_codes_are_unit_vectors_without_a_mean() -> None:
    codes = codebook()
    assert codes.shape == (VQ_CODES, VQ_PATCH**2)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(codes.mean(axis=1), 0, atol=1e-6)


def test_a_flat_picture_shows_the_codes_too() -> None:
    flat = np.full((32, 32, 3), 0.4, np.float32)
    assert quantise_patches(flat, 1.0).std() > 0.005


def test_halving_undoes_bilinear_doubling_of_flat_and_linear_pictures() -> None:
    ramp = np.repeat(np.arange(16, dtype=np.float32)[None, :, None], 16, axis=0)
    np.testing.assert_allclose(halve(double_bilinear(ramp))[:, 1:-1], ramp[:, 1:-1], atol=1e-5)
