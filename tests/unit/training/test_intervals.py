"""Confidence intervals: their known values, and how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from aigid.contract import rows_needed
from aigid.training.confusion_counts import bootstrap_interval, f1_by_class
from aigid.training.intervals import Proportion, auroc_interval, lowest_rate_shown


def test_a_proportion_has_wilson_s_interval() -> None:
    # Newcombe, Two-sided confidence intervals for the single proportion (1998), table I.
    for count, rows, expected in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605))):
        assert Proportion(count, rows).interval == pytest.approx(expected, abs=5e-5)
        found = binomtest(count, rows).proportion_ci(0.95, method="wilson")
        assert Proportion(count, rows).interval == pytest.approx((found.low, found.high), abs=1e-9)
    none, all_rows = Proportion(0, 20).interval, Proportion(20, 20).interval
    assert none is not None and all_rows is not None
    assert none.low == pytest.approx(0, abs=1e-12)
    assert none.high == pytest.approx(0.1611, abs=5e-5)
    assert all_rows.low == pytest.approx(1 - none.high)


def test_a_proportion_of_no_rows_is_none() -> None:
    empty = Proportion.of(np.zeros(0, np.bool_))
    assert empty.to_json() == {"value": None, "interval": None, "rows": 0}
    assert Proportion.of(np.array([True, False, True, True])).value == 0.75


@pytest.mark.parametrize(
    ("auroc", "positives", "negatives"), [(0.7, 40, 40), (0.9, 100, 30), (0.97, 25, 400)]
)
def test_the_interval_of_an_auroc_holds_the_truth_in_95_of_100_draws(
    auroc: float, positives: int, negatives: int
) -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([1, 0], [positives, negatives])
    shift = norm.ppf(auroc) * 2**0.5 * truth
    held = 0
    for _ in range(400):
        found = auroc_interval(float(roc_auc_score(truth, rng.normal(shift))), positives, negatives)
        held += found.low <= auroc <= found.high
    assert 0.92 <= held / 400 <= 0.995


def test_the_interval_of_an_auroc_has_a_width_where_ranks_are_perfect() -> None:
    low, high = auroc_interval(1.0, 50, 50)
    assert high == 1
    assert 0.9 < low < 0.98
    assert auroc_interval(0.0, 50, 50) == pytest.approx((0, 1 - low))
    assert auroc_interval(1.0, 1, 1).low < 0.5


def test_more_rows_give_a_narrower_interval() -> None:
    widths = [high - low for low, high in (auroc_interval(0.9, n, n) for n in (10, 100, 10_000))]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.01


def test_the_interval_of_a_macro_f1_holds_the_truth_in_95_of_100_draws() -> None:
    rng = np.random.default_rng(2)
    rates = np.eye(4) * 0.8 + 0.05

    def macro_f1(confusions: np.ndarray) -> np.ndarray:
        return f1_by_class(confusions).mean(axis=1)

    truth = float(macro_f1((rates * 1e6).astype(np.int64)[None])[0])
    held = 0
    for _ in range(200):
        confusion = np.stack([rng.multinomial(60, row) for row in rates])
        found = bootstrap_interval(confusion, macro_f1)
        assert found is not None
        assert bootstrap_interval(confusion, macro_f1) == found
        held += found.low <= truth <= found.high
    assert 0.9 <= held / 200 <= 0.99


def test_a_model_that_is_always_right_shows_no_interval_by_drawing_anew() -> None:
    assert (
        bootstrap_interval(np.eye(3, dtype=np.int64) * 5, lambda draws: f1_by_class(draws)[:, 0])
        is None
    )


def test_the_lowest_rate_that_rows_can_show_needs_so_many_rows() -> None:
    assert lowest_rate_shown(0) == 1
    for rate in (0.05, 0.01, 0.001):
        rows = rows_needed(rate)
        assert lowest_rate_shown(rows) <= rate < lowest_rate_shown(rows - 1)
