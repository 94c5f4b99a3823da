"""Probabilities to decisions."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigid.contract import MissThreshold, ModelContract, OpenSet, Threshold
from aigid.decisions import (
    DEFAULT_THRESHOLD,
    VERDICTS,
    VerdictRule,
    decide_ai,
    decide_source,
    decide_verdict,
    mode_of,
)
from aigid.errors import ContractError, UsageError
from aigid.records import DEFAULT_LABELS, Mode, source_names

F32 = np.float32


def distribution(p_ai: float, *generators: float) -> list[float]:
    return [1 - p_ai, *(p_ai * share for share in generators)]


def test_the_default_threshold_is_a_half() -> None:
    assert DEFAULT_THRESHOLD == 0.5


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.9, 0.987654321, 1.0])
def test_p_ai_at_the_threshold_is_ai_and_just_below_is_not(threshold: float) -> None:
    at = F32(threshold)
    p_ai = np.array([at, np.nextafter(at, F32(-1)), np.nextafter(at, F32(2))], F32)
    assert decide_ai(p_ai, threshold).tolist() == [True, False, True]


def test_a_stored_p_ai_as_threshold_makes_its_own_row_ai() -> None:
    # float32 rounds 0.1 up and 0.7 down: compared in float64, one of the two would flip.
    for stored in np.array([0.1, 0.7], F32):
        assert decide_ai(np.array([stored]), float(stored)).tolist() == [True]
        assert decide_ai(np.array([stored]), float(str(stored))).tolist() == [True]


def test_no_rows_have_no_decisions() -> None:
    is_ai = decide_ai(np.empty(0, F32), 0.5)
    assert is_ai.shape == (0,)
    found = decide_source(is_ai, np.empty((0, 6), F32), np.empty(0, F32), OpenSet(0.5, 0.95, 9))
    assert found.shape == (0,)


@pytest.mark.parametrize(
    ("row", "is_ai", "source"),
    [
        (distribution(0.9, 1, 0, 0, 0, 0), True, "sd21"),
        (distribution(0.9, 0, 1, 0, 0, 0), True, "sdxl"),
        (distribution(0.9, 0, 0, 1, 0, 0), True, "sd3"),
        (distribution(0.9, 0, 0, 0, 1, 0), True, "dalle3"),
        (distribution(0.9, 0, 0, 0, 0, 1), True, "midjourney"),
        (distribution(0.9, 0.1, 0.2, 0.4, 0.2, 0.1), True, "sd3"),
        # AI at a low threshold: the likeliest generator, though "real" is likelier than each.
        (distribution(0.3, 0.1, 0.2, 0.3, 0.35, 0.05), True, "dalle3"),
        # Not AI at a high threshold: real, though a generator is likelier.
        (distribution(0.9, 1, 0, 0, 0, 0), False, "real"),
        (distribution(0.5, 0.2, 0.2, 0.2, 0.2, 0.2), True, "sd21"),
    ],
)
def test_the_source_is_real_or_the_likeliest_generator(
    row: list[float], is_ai: bool, source: str
) -> None:
    for open_set in (None, OpenSet(0.5, 0.95, 100)):
        index = decide_source(
            np.array([is_ai]), np.array([row], F32), np.array([0.5], F32), open_set
        )
        assert index.dtype == np.int32
        assert source_names(DEFAULT_LABELS)[index[0]] == source


@pytest.mark.parametrize(
    ("known_score", "is_ai", "source"),
    [(0.7, True, "sdxl"), (np.nextafter(F32(0.7), F32(0)), True, "other"), (0.0, False, "real")],
)
def test_below_the_open_set_threshold_the_source_is_other(
    known_score: float, is_ai: bool, source: str
) -> None:
    row = np.array([distribution(0.9, 0, 1, 0, 0, 0)], F32)
    index = decide_source(
        np.array([is_ai]), row, np.array([known_score], F32), OpenSet(0.7, 0.95, 100)
    )
    assert source_names(DEFAULT_LABELS)[index[0]] == source


def test_a_model_of_any_labels_has_decisions() -> None:
    row = np.array([[0.2, 0.8]], F32)
    index = decide_source(np.array([True]), row, np.zeros(1, F32), None)
    assert source_names(("real", "other"))[index[0]] == "other"


def test_each_row_is_decided_independently() -> None:
    p_source = np.array(
        [
            distribution(0.8, 0, 1, 0, 0, 0),
            distribution(0.2, 1, 0, 0, 0, 0),
            distribution(0.6, 0, 0, 0, 0, 1),
        ],
        F32,
    )
    is_ai = decide_ai(1 - p_source[:, 0], 0.5)
    assert is_ai.tolist() == [True, False, True]
    found = decide_source(is_ai, p_source, np.ones(3, F32), None)
    assert [source_names(DEFAULT_LABELS)[index] for index in found] == [
        "sdxl",
        "real",
        "midjourney",
    ]


def contract(ai_from: float | None, real_below: float | None, rate: str = "0.01") -> ModelContract:
    return ModelContract(
        "tiny",
        "",
        1,
        1,
        "f",
        "e",
        thresholds={} if ai_from is None else {rate: Threshold(ai_from, 3000, 0.95)},
        miss_thresholds={} if real_below is None else {rate: MissThreshold(real_below, 3000, 0.95)},
    )


def verdicts(p_ai: list[float] | npt.NDArray[np.float32], rule: VerdictRule) -> list[str]:
    return [VERDICTS[index].value for index in decide_verdict(np.array(p_ai, F32), rule)]


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.987654321, 1.0])
def test_best_guess_goes_by_the_threshold_and_is_never_unsure(threshold: float) -> None:
    rule = VerdictRule.of(Mode.BEST_GUESS, threshold, contract(None, None))
    at = F32(threshold)
    p_ai = np.array([0, at, np.nextafter(at, F32(-1)), np.nextafter(at, F32(2)), 1], F32)
    expected = ["ai" if is_ai else "real" for is_ai in decide_ai(p_ai, threshold)]
    assert verdicts(p_ai, rule) == expected


@pytest.mark.parametrize(
    ("mode", "rate"), [(Mode.BALANCED, "0.01"), (Mode.HIGH_PRECISION, "0.001")]
)
def test_other_modes_are_unsure_between_the_stored_thresholds(mode: Mode, rate: str) -> None:
    rule = VerdictRule.of(mode, 0.5, contract(0.9, 0.2, rate))
    below = [float(np.nextafter(F32(bound), F32(0))) for bound in (0.2, 0.9)]
    assert verdicts([0, below[0], 0.2, 0.5, below[1], 0.9, 1], rule) == [
        *["real"] * 2,
        *["unsure"] * 3,
        *["ai"] * 2,
    ]


@pytest.mark.parametrize(
    ("threshold", "both"), [(0.5, 0.5), (0.1, 0.3), (0.3, 0.3), (0.99, 0.8), (0.8, 0.8)]
)
def test_where_bounds_cross_the_threshold_decides_within_them(
    threshold: float, both: float
) -> None:
    rule = VerdictRule.of(Mode.BALANCED, threshold, contract(0.3, 0.8))
    assert (rule.ai_from, rule.real_below) == (both, both)
    assert "unsure" not in verdicts(np.linspace(0, 1, 101, dtype=F32), rule)


@given(*[st.floats(0, 1, width=32)] * 3, st.lists(st.floats(0, 1, width=32), min_size=1))
def test_no_verdict_breaks_a_rate_that_its_threshold_keeps(
    ai_from: float, real_below: float, threshold: float, p_ai: list[float]
) -> None:
    rule = VerdictRule.of(Mode.BALANCED, threshold, contract(ai_from, real_below))
    for value, verdict in zip(p_ai, verdicts(p_ai, rule), strict=True):
        assert value >= ai_from or verdict != "ai"
        assert value < real_below or verdict != "real"
        # Nothing is unsure that one of the two thresholds is certain of.
        assert verdict != "unsure" or real_below <= value < ai_from


def test_a_mode_without_thresholds_is_refused() -> None:
    for found in (contract(None, 0.1), contract(0.9, None), contract(0.9, 0.1, "0.05")):
        with pytest.raises(ContractError, match="^`mode` balanced: model tiny has not"):
            VerdictRule.of(Mode.BALANCED, 0.5, found)


def test_a_mode_has_its_name() -> None:
    assert [mode_of(mode.value) for mode in Mode] == list(Mode)
    for wrong in ("best_guess", None, 1, ["balanced"]):
        with pytest.raises(UsageError, match="^`mode` must be one of best-guess, balanced, high"):
            mode_of(wrong)
