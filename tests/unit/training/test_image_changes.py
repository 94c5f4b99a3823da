"""Changes of images: random ones that a seed repeats, fixed ones, and one common encoding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aigid.errors import UsageError
from aigid.training.image_changes import DEGRADATIONS, UNIFIED_SIDE, Augmentation, in_turn, unify


def sample(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int16)


def changed(augmentation: Augmentation, rng: np.random.Generator) -> Image.Image | None:
    """Return the sample after a drawn change, or None where nothing was drawn."""
    change = augmentation.draw(rng)
    return None if change is None else change(sample())


def test_nothing_changes_by_default() -> None:
    assert Augmentation().is_off
    assert Augmentation().draw(np.random.default_rng(0)) is None


@pytest.mark.parametrize("name", ["crop", "resize", "blur", "jpeg"])
def test_each_change_has_its_probability_and_varies(name: str) -> None:
    rng = np.random.default_rng(3)
    drawn = [changed(Augmentation(**{name: 0.5}), rng) for _ in range(200)]
    images = [one for one in drawn if one is not None]
    assert 70 <= len(images) <= 130
    assert len({one.tobytes() for one in images}) > 20
    if name in ("blur", "jpeg"):
        assert {one.size for one in images} == {sample().size}


def test_the_same_seed_makes_the_same_changes() -> None:
    every = Augmentation(1, 1, 1, 1)
    once, again, other = (changed(every, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert once is not None and again is not None and other is not None
    assert once.tobytes() == again.tobytes()
    assert once.tobytes() != other.tobytes()


def test_changes_are_applied_in_turn() -> None:
    assert in_turn() is None
    assert in_turn(None, None) is None
    half, jpeg = DEGRADATIONS["half size"], DEGRADATIONS["JPEG 50"]
    both = in_turn(None, half, jpeg)
    assert both is not None
    assert both(sample()).tobytes() == jpeg(half(sample())).tobytes()


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32))
def test_images_of_any_size_can_be_changed(width: int, height: int, seed: int) -> None:
    every = Augmentation(1, 1, 1, 1).draw(np.random.default_rng(seed))
    assert every is not None
    image = every(sample(width, height))
    assert image.mode == "RGB"
    assert min(image.size) >= min(32, width, height)
    for change in (*DEGRADATIONS.values(), unify):
        assert min(change(sample(width, height)).size) >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("jpeg",), "`augment`: jpeg is not NAME=PROBABILITY"),
        (("jpeg=often",), "`augment`: jpeg=often is not NAME=PROBABILITY"),
        (
            ("noise=0.5",),
            "unknown change in noise=0.5: the changes are crop, resize, blur, jpeg, flip",
        ),
        (("jpeg=1.5",), "`augment`: the probability of jpeg must be between 0 and 1: got 1.5"),
        (("jpeg=nan",), "`augment`: the probability of jpeg must be between 0 and 1: got nan"),
    ],
)
def test_an_invalid_augmentation_is_a_usage_error(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Augmentation.parse(words)


def test_an_augmentation_is_parsed_from_words() -> None:
    assert Augmentation.parse(("jpeg=0.5", "blur=0.25")) == Augmentation(jpeg=0.5, blur=0.25)
    assert Augmentation.parse(()) == Augmentation()


def test_degradations_do_what_their_names_say() -> None:
    before = sample(200, 100)
    after = {name: change(before) for name, change in DEGRADATIONS.items()}
    assert after["half size"].size == (100, 50)
    assert after["crop 70 %"].size == (140, 70)
    assert after["screenshot"].size == (160, 80)
    harm = {
        name: np.abs(pixels(after[name]) - pixels(before)).mean()
        for name in ("JPEG 70", "JPEG 50", "blur 1")
    }
    assert 0 < harm["JPEG 70"] < harm["JPEG 50"]
    assert harm["blur 1"] > 0
    assert all(
        change(before).tobytes() == after[name].tobytes() for name, change in DEGRADATIONS.items()
    )


def test_unified_images_have_one_encoding_and_a_largest_size() -> None:
    assert unify(sample(2000, 1024)).size == (1000, UNIFIED_SIDE)
    small = unify(sample(100, 60))
    assert small.size == (100, 60)
    tables = {str(unify(sample(100, 60, seed)).quantization) for seed in range(3)}
    assert len(tables) == 1
