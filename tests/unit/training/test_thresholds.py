import dataclasses
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from aigid.contract import CONFIDENCE, Threshold, rows_needed
from aigid.decisions import decide_ai
from aigid.errors import UsageError
from aigid.training.metrics import LabelledScores
from aigid.training.open_set import FittedOpenSet
from aigid.training.thresholds import (
    allowed_errors,
    fit_decisions,
    fit_miss_threshold,
    fit_miss_thresholds,
    fit_threshold,
    fit_thresholds,
    true_positive_rates,
)

Floats = npt.NDArray[np.float32]

# A detector whose logit on real images is normal: the true rate of a threshold is known.
MEAN, DEVIATION = -4.0, 2.0
DRAWS = 1000
CASES = [(rows, rate) for rows in (300, 1_500, 3_000, 10_000) for rate in (0.01, 0.001)]


def sample(rng: np.random.Generator, rows: int) -> Floats:
    logits = rng.normal(MEAN, DEVIATION, rows)
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def true_rate(threshold: float) -> float:
    """Return the share of real images whose `p_ai` is at least `threshold`."""
    return float(norm.sf((math.log(threshold / (1 - threshold)) - MEAN) / DEVIATION))


def empirical_quantile(real: Floats, rate: float) -> float:
    """Return the lowest threshold with at most `rate` of these very rows above it."""
    return float(np.nextafter(np.sort(real)[-int(rate * len(real)) - 1], np.float32(2)))


def share_of_broken_promises(
    fit: Callable[[Floats, float], float], rows: int, rate: float
) -> float:
    rng = np.random.default_rng(rows)
    thresholds = [fit(sample(rng, rows), rate) for _ in range(DRAWS)]
    return float(np.mean([true_rate(threshold) > rate for threshold in thresholds]))


# If each of 1,000 draws breaks the promise with a probability of 5 %, more than 7.3 % of them do so
# only once in 1,000 times.
HIGHEST_SHARE = binom.ppf(0.999, DRAWS, 1 - CONFIDENCE) / DRAWS


@pytest.mark.parametrize(("rows", "rate"), CASES)
def test_a_stored_threshold_keeps_its_rate_in_19_of_20_draws(rows: int, rate: float) -> None:
    if rows < rows_needed(rate):
        with pytest.raises(UsageError, match=f"{rows_needed(rate):,} real rows"):
            fit_threshold(sample(np.random.default_rng(0), rows), rate)
        return
    broken = share_of_broken_promises(lambda real, rate: fit_threshold(real, rate).p_ai, rows, rate)
    assert broken <= HIGHEST_SHARE


@pytest.mark.parametrize(("rows", "rate"), CASES)
def test_the_empirical_quantile_breaks_its_promise(rows: int, rate: float) -> None:
    assert share_of_broken_promises(empirical_quantile, rows, rate) > 0.4


@pytest.mark.parametrize(("rows", "rate"), [*CASES, (299, 0.01), (2_995, 0.001), (59, 0.05)])
def test_one_more_false_positive_would_break_the_promise(rows: int, rate: float) -> None:
    allowed = allowed_errors(rows, rate)
    if rows < rows_needed(rate):
        assert allowed is None
        return
    assert allowed is not None
    # The true rate above the highest of the other rows is distributed as Beta(k + 1, n - k).
    risk = [beta.sf(rate, k + 1, rows - k) for k in (allowed, allowed + 1)]
    assert risk[0] <= 1 - CONFIDENCE < risk[1]
    assert risk[0] == pytest.approx(binom.cdf(allowed, rows, rate))


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.05, 59), (0.01, 299), (0.001, 2_995), (1e-6, 2_995_731)]
)
def test_a_rate_needs_so_many_real_rows(rate: float, needed: int) -> None:
    assert rows_needed(rate) == needed
    assert allowed_errors(needed, rate) == 0
    assert allowed_errors(needed - 1, rate) is None


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_ties_keep_the_promise(digits: int) -> None:
    """Detectors that give few different probabilities, also 0 and 1."""
    rng, rows, rate = np.random.default_rng(5), 1_000, 0.01
    everyone = np.sort(sample(rng, 100_000).round(digits))
    broken, refused = 0, 0
    for _ in range(DRAWS):
        try:
            threshold = fit_threshold(rng.choice(everyone, rows), rate).p_ai
        except UsageError:
            refused += 1
        else:
            called_ai = len(everyone) - np.searchsorted(everyone, np.float32(threshold))
            broken += int(called_ai / len(everyone) > rate)
    assert refused < DRAWS
    assert broken / DRAWS <= HIGHEST_SHARE


def test_saturated_real_rows_within_the_allowance_are_called_ai() -> None:
    allowed = allowed_errors(1_000, 0.01)
    assert allowed == 4
    real = np.linspace(0, 0.9, 1_000, dtype=np.float32)
    real[:4] = 1
    assert decide_ai(real, fit_threshold(real, 0.01).p_ai).sum() == 4
    real[4] = 1
    with pytest.raises(
        UsageError, match="5 of 1,000 real rows have the highest p_ai, 1; it allows 4"
    ):
        fit_threshold(real, 0.01)


@settings(max_examples=100)
@given(
    st.lists(
        st.sampled_from([0.0, 0.1, 0.3, 0.30000001, 0.5, 0.999999]), min_size=60, max_size=120
    ),
    st.sampled_from([0.05, 0.1, 0.3]),
)
def test_the_threshold_is_the_lowest_that_calls_no_more_rows_ai(
    p: list[float], rate: float
) -> None:
    real = np.array(p, dtype=np.float32)
    allowed, found = allowed_errors(len(real), rate), fit_threshold(real, rate)
    assert allowed is not None
    assert decide_ai(real, found.p_ai).sum() <= allowed
    below = np.nextafter(np.float32(found.p_ai), np.float32(-1))
    assert decide_ai(real, float(below)).sum() > allowed
    # contract.json holds it exactly.
    assert np.float32(found.p_ai) == found.p_ai <= 1


def test_rates_without_enough_real_rows_are_refused_with_the_number_that_they_need() -> None:
    label_a, p_ai = np.array([0] * 500 + [1] * 5_000), np.full(5_500, 0.25, dtype=np.float32)
    fitted = fit_thresholds(label_a, p_ai)
    assert fitted.found.keys() == {"0.05", "0.01"}
    assert {(item.real_rows, item.confidence) for item in fitted.found.values()} == {(500, 0.95)}
    assert fitted.refused == {
        "0.001": "a false-positive rate of 0.001 needs 2,995 real rows: got 500"
    }


def test_without_real_rows_every_rate_is_refused() -> None:
    fitted = fit_thresholds(np.ones(9, dtype=np.int64), np.zeros(9, dtype=np.float32))
    assert not fitted.found
    assert fitted.refused.keys() == {"0.05", "0.01", "0.001"}


def test_each_threshold_finds_a_share_of_the_ai_generated_rows() -> None:
    thresholds = {"0.05": Threshold(0.5, 100, CONFIDENCE), "0.01": Threshold(0.9, 300, CONFIDENCE)}
    p_ai = np.array([0.1, 0.5, 0.6, 0.9, 0.95], np.float32)
    label_a = np.array([0, 1, 1, 1, 0])
    scores = LabelledScores(label_a, label_a, p_ai, p_ai[:, None], p_ai, ("real", "other"))
    assert true_positive_rates(scores, thresholds) == {"0.05": 1.0, "0.01": pytest.approx(1 / 3)}
    real = dataclasses.replace(scores, label_a=np.zeros(5, np.int64))
    assert true_positive_rates(real, thresholds) == {}


def mirrored(p_ai: Floats) -> Floats:
    return (1 - p_ai.astype(np.float64)).astype(np.float32)


@pytest.mark.parametrize(("rows", "rate"), CASES)
def test_a_stored_miss_threshold_keeps_its_rate_in_19_of_20_draws(rows: int, rate: float) -> None:
    """A detector whose logit on AI-generated images is normal, with the mean 4."""

    def fit(real: Floats, rate: float) -> float:
        return 1 - fit_miss_threshold(mirrored(real), rate).p_ai

    if rows < rows_needed(rate):
        with pytest.raises(
            UsageError, match=f"{rows_needed(rate):,} AI-generated rows: got {rows:,}"
        ):
            fit_miss_threshold(sample(np.random.default_rng(0), rows), rate)
        return
    assert share_of_broken_promises(fit, rows, rate) <= HIGHEST_SHARE


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([0.000001, 0.1, 0.3, 0.30000001, 0.5, 1.0]), min_size=60, max_size=99),
    st.sampled_from([0.05, 0.1, 0.3]),
)
def test_the_miss_threshold_is_the_highest_that_calls_no_more_rows_real(
    p: list[float], rate: float
) -> None:
    generated = np.array(p, dtype=np.float32)
    allowed, found = allowed_errors(len(generated), rate), fit_miss_threshold(generated, rate)
    assert allowed is not None
    assert (~decide_ai(generated, found.p_ai)).sum() <= allowed
    above = float(np.nextafter(np.float32(found.p_ai), np.float32(2)))
    assert (~decide_ai(generated, above)).sum() > allowed
    assert np.float32(found.p_ai) == found.p_ai > 0
    assert (found.ai_rows, found.confidence) == (len(p), CONFIDENCE)


def test_ai_generated_rows_of_p_ai_0_beyond_the_allowance_are_refused() -> None:
    generated = np.linspace(0.1, 1, 1_000, dtype=np.float32)
    generated[:4] = 0
    assert (~decide_ai(generated, fit_miss_threshold(generated, 0.01).p_ai)).sum() == 4
    generated[4] = 0
    with pytest.raises(UsageError, match="5 of 1,000 AI-generated rows have the lowest p_ai, 0; "):
        fit_miss_threshold(generated, 0.01)


def test_miss_thresholds_are_fitted_for_the_rates_of_the_modes() -> None:
    label_a = np.array([0] * 5_000 + [1] * 500)
    fitted = fit_miss_thresholds(label_a, np.full(5_500, 0.25, dtype=np.float32))
    assert {rate: item.ai_rows for rate, item in fitted.found.items()} == {"0.01": 500}
    assert fitted.refused == {
        "0.001": "a miss rate of 0.001 needs 2,995 AI-generated rows: got 500"
    }


def test_decisions_have_thresholds_of_both_rates_and_every_refusal() -> None:
    label_a = np.array([0] * 60 + [1] * 300)
    p_ai = np.linspace(0.1, 0.9, 360, dtype=np.float32)
    scores = LabelledScores(label_a, label_a, p_ai, p_ai[:, None], p_ai, ("real", "other"))
    found = fit_decisions(scores, FittedOpenSet(None, "no open set"))
    assert (found.thresholds.keys(), found.miss_thresholds.keys()) == ({"0.05"}, {"0.01"})
    assert found.refused.keys() == {"0.01", "0.001", "miss 0.001", "other"}
