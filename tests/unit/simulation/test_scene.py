import numpy as np

from aigid.simulation.scene import draw_scene
from aigid.simulation.vocabulary import COLOURS, COUNTS, EXTRAS, LIGHTS, NOUNS, TEMPLATES


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
    for kind, templates in TEMPLATES.items():
        for template in templates:
            longest = {
                "noun": max(NOUNS[kind], key=lambda text: len(text.split())),
                "extra": max(EXTRAS[kind], key=lambda text: len(text.split())),
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


def test_every_colour_is_a_reflectance() -> None:
    assert all(0 < value < 1 for colour in COLOURS.values() for value in colour)
