"""What the code gives today against the golden references, each with its tolerance.

A missing reference fails. `make references` makes them anew.
"""

import json

import numpy as np
import pytest
from references.make import (
    PIXELS,
    PROBABILITIES,
    TOKENS,
    Pair,
    compute_pixels,
    compute_probabilities,
    compute_tokens,
    read_pairs,
)

from aigid import Detector

# Other releases of Pillow and its decoders may round differently: two levels of 255 at most, and
# next to none on average.
PIXEL_LEVELS, MEAN_PIXEL_LEVELS = 2, 0.1
# The INT8 graphs give the same bits with and without VNNI; what is left is rounding of pixels.
PROBABILITY = 1e-3


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return read_pairs()


def test_pixels_are_those_of_the_reference(pairs: list[Pair]) -> None:
    reference = np.load(PIXELS)
    found = compute_pixels(pairs)
    assert found.keys() == set(reference.files)
    for name, pixels in found.items():
        assert pixels.shape == reference[name].shape, name
        levels = np.abs(pixels.astype(int) - reference[name].astype(int))
        assert levels.max() <= PIXEL_LEVELS, name
        assert levels.mean() <= MEAN_PIXEL_LEVELS, name


def test_token_ids_are_exactly_those_of_the_reference(pairs: list[Pair]) -> None:
    assert compute_tokens(pairs) == json.loads(TOKENS.read_text(encoding="utf-8"))


def test_probabilities_are_those_of_the_reference(pairs: list[Pair]) -> None:
    reference = json.loads(PROBABILITIES.read_text(encoding="utf-8"))
    found = compute_probabilities(pairs)
    assert found.keys() == reference.keys()
    for name, values in found.items():
        assert values == pytest.approx(reference[name], abs=PROBABILITY), name


def test_the_detector_gives_the_reference_s_probabilities(pairs: list[Pair]) -> None:
    reference = json.loads(PROBABILITIES.read_text(encoding="utf-8"))
    detections = Detector.load().detect(
        [pair.image for pair in pairs], [pair.prompt for pair in pairs]
    )
    for pair, detection in zip(pairs, detections, strict=True):
        assert detection.error is None, pair.name
        assert detection.p_ai is not None
        assert detection.p_source is not None
        found = [detection.p_ai, *detection.p_source]
        assert found == pytest.approx(reference[pair.name], abs=PROBABILITY), pair.name


def test_the_references_have_both_answers_and_every_odd_form(pairs: list[Pair]) -> None:
    answers = [
        values[0] >= 0.5
        for values in json.loads(PROBABILITIES.read_text(encoding="utf-8")).values()
    ]
    assert {True, False} == set(answers)
    assert len(pairs) == len({pair.name for pair in pairs}) == 21
