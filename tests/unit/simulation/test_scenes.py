import numpy as np
import pytest

from aigid.simulation.scenes import (
    COLOURS,
    COUNTS,
    EXTRAS,
    LIGHTS,
    NOUNS,
    TEMPLATES,
    Family,
    Scene,
    draw_scene,
    power_noise,
    render_scene,
)


def scene_of(family: Family) -> Scene:
    rng = np.random.default_rng(0)
    return next(scene for scene in iter(lambda: draw_scene(rng), None) if scene.family is family)


def test_captions_have_8_to_20_words_and_name_the_colours() -> None:
    rng = np.random.default_rng(1)
    for _ in range(3000):
        scene = draw_scene(rng)
        assert 8 <= len(scene.caption.split()) <= 20, scene.caption
        assert scene.caption[0].isupper()
        assert scene.caption.endswith(".")
        for colour in (scene.first, scene.second, scene.ground):
            assert colour in scene.caption.lower()


def test_the_longest_captions_have_at_most_20_words() -> None:
    for family, templates in TEMPLATES.items():
        for template in templates:
            longest = {
                "noun": max(NOUNS[family], key=lambda text: len(text.split())),
                "extra": max(EXTRAS[family], key=lambda text: len(text.split())),
                "count": max(COUNTS, key=lambda text: len(text.split())),
                "light": max(LIGHTS, key=lambda text: len(text.split())),
            }
            text = template.format(first="red", second="red", ground="red", **longest)
            assert len(text.split()) <= 20


def test_captions_say_an_before_vowels() -> None:
    rng = np.random.default_rng(2)
    words = " ".join(draw_scene(rng).caption for _ in range(2000)).lower().split()
    pairs = list(zip(words, words[1:], strict=False))
    assert ("an", "orange") in pairs
    assert not [pair for pair in pairs if pair[0] == "a" and pair[1][0] in "aeiou"]
    assert not [pair for pair in pairs if pair[0] == "an" and pair[1][0] not in "aeiou"]


@pytest.mark.parametrize("family", list(Family))
def test_light_has_edges_and_fine_texture(family: Family) -> None:
    light = render_scene(scene_of(family), np.random.default_rng(3), 96, 128)
    assert light.shape == (96, 128, 3)
    assert light.dtype == np.float32
    assert np.isfinite(light).all()
    assert light.min() >= 0
    assert light.max() < 4
    assert np.abs(np.diff(light, axis=1)).mean() > 0.002


def test_the_same_state_gives_the_same_picture_and_another_gives_another() -> None:
    scene = scene_of(Family.SCATTER)
    pictures = [render_scene(scene, np.random.default_rng(seed), 64, 64) for seed in (1, 1, 2)]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_every_colour_is_a_reflectance() -> None:
    assert all(0 < value < 1 for colour in COLOURS.values() for value in colour)


@pytest.mark.parametrize("power", [0.6, 1.6])
def test_noise_falls_with_frequency_as_asked(power: float) -> None:
    noise = power_noise(np.random.default_rng(0), (256, 256), power)
    spectrum = np.abs(np.fft.rfft2(noise)) ** 2
    low, high = spectrum[4:12, 4:12].mean(), spectrum[32:96, 32:96].mean()
    slope = np.log(low / high) / np.log(64 / 8) / 2
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert slope == pytest.approx(power, abs=0.25)
