"""Thresholds of `p_ai` that keep a false-positive rate or a miss rate, with a stated confidence.

n rows show a rate only within the limits of chance. A threshold is stored for a rate if the
one-sided Clopper-Pearson bound on its true rate, at 95 % confidence, is at most that rate.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from aigid.contract import CONFIDENCE, MissThreshold, OpenSet, Threshold, rows_needed
from aigid.decisions import decide_ai
from aigid.errors import UsageError
from aigid.records import OTHER, Mode
from aigid.scorers import Probabilities
from aigid.training.metrics import LabelledScores
from aigid.training.open_set import FittedOpenSet

RATES = (0.05, 0.01, 0.001)
"""The false-positive rates that a model's thresholds are fitted for, as far as its rows allow."""

MISS_RATES = tuple(mode.rate for mode in Mode if mode.rate is not None)
"""The miss rates that are fitted: those of the modes of verdicts."""


@dataclass(frozen=True)
class Decisions:
    """How a model decides.

    `found_by` has the share of AI-generated rows that the threshold of each rate (as text) finds,
    empty without such rows. `refused` has the reason for each rate that has no threshold, under
    "miss RATE" for a miss rate, and for the source "other" where it has none.
    """

    thresholds: dict[str, Threshold]
    miss_thresholds: dict[str, MissThreshold]
    open_set: OpenSet | None
    found_by: dict[str, float]
    refused: dict[str, str]


def fit_decisions(
    scores: LabelledScores, open_set: FittedOpenSet, rates: Iterable[float] = RATES
) -> Decisions:
    """Fit the thresholds of `rates` on scores of labelled rows; `open_set` is fitted already."""
    fitted = fit_thresholds(scores.label_a, scores.p_ai, rates)
    missed = fit_miss_thresholds(scores.label_a, scores.p_ai)
    refused = fitted.refused | {f"miss {rate}": why for rate, why in missed.refused.items()}
    if open_set.refused:
        refused[OTHER] = open_set.refused
    found_by = true_positive_rates(scores, fitted.found)
    return Decisions(fitted.found, missed.found, open_set.open_set, found_by, refused)


_AnyThreshold = TypeVar("_AnyThreshold", Threshold, MissThreshold)


@dataclass(frozen=True)
class FittedThresholds(Generic[_AnyThreshold]):
    """Thresholds by rate as text ("0.01"), and the reason for each rate that has none."""

    found: dict[str, _AnyThreshold]
    refused: dict[str, str]


def fit_thresholds(
    label_a: npt.NDArray[np.int64], p_ai: Probabilities, rates: Iterable[float] = RATES
) -> FittedThresholds[Threshold]:
    """Return the threshold for each of `rates` that the real rows (label 0) are enough for."""
    return _fit_each(fit_threshold, p_ai[label_a == 0], rates)


def fit_miss_thresholds(
    label_a: npt.NDArray[np.int64], p_ai: Probabilities, rates: Iterable[float] = MISS_RATES
) -> FittedThresholds[MissThreshold]:
    """Return the threshold for each miss rate that the AI-generated rows (label 1) allow."""
    return _fit_each(fit_miss_threshold, p_ai[label_a == 1], rates)


def _fit_each(
    fit: Callable[[Probabilities, float], _AnyThreshold],
    p_ai: Probabilities,
    rates: Iterable[float],
) -> FittedThresholds[_AnyThreshold]:
    found, refused = {}, {}
    for rate in rates:
        try:
            found[f"{rate:g}"] = fit(p_ai, rate)
        except UsageError as error:
            refused[f"{rate:g}"] = str(error)
    return FittedThresholds(found, refused)


def fit_threshold(real: Probabilities, rate: float) -> Threshold:
    """Return the lowest threshold that keeps a false-positive rate, for the `p_ai` of real rows.

    If other real rows of the same kind are called AI-generated from this threshold on, the share
    called so is above `rate` for at most 1 in 20 sets of rows that a threshold is fitted on. Rows
    with equal `p_ai` only make that rarer.

    Raises UsageError, with the number of real rows that are needed, if there are too few, and if
    too many have a `p_ai` of exactly 1.
    """
    allowed = allowed_errors(len(real), rate)
    if allowed is None:
        raise UsageError(
            f"a false-positive rate of {rate:g} needs {rows_needed(rate):,} real rows: "
            f"got {len(real):,}"
        )
    # The highest of the real rows that must not be called AI-generated.
    highest = np.float32(np.partition(real, -allowed - 1)[-allowed - 1])
    if highest >= 1:
        saturated = int((real >= 1).sum())
        raise UsageError(
            f"no threshold keeps a false-positive rate of {rate:g}: {saturated:,} of {len(real):,} "
            f"real rows have the highest p_ai, 1; it allows {allowed:,}"
        )
    return Threshold(float(np.nextafter(highest, np.float32(1))), len(real), CONFIDENCE)


def fit_miss_threshold(generated: Probabilities, rate: float) -> MissThreshold:
    """Return the highest threshold that keeps a miss rate, for the `p_ai` of AI-generated rows.

    It is the mirror of `fit_threshold`: the share of AI-generated images below it is above `rate`
    for at most 1 in 20 sets of rows that a threshold is fitted on.

    Raises UsageError, with the number of AI-generated rows that are needed, if there are too few,
    and if too many have a `p_ai` of exactly 0.
    """
    allowed = allowed_errors(len(generated), rate)
    if allowed is None:
        raise UsageError(
            f"a miss rate of {rate:g} needs {rows_needed(rate):,} AI-generated rows: "
            f"got {len(generated):,}"
        )
    # The lowest of the AI-generated rows that must not be called real.
    lowest = float(np.partition(generated, allowed)[allowed])
    if lowest <= 0:
        missed = int((generated <= 0).sum())
        raise UsageError(
            f"no threshold keeps a miss rate of {rate:g}: {missed:,} of {len(generated):,} "
            f"AI-generated rows have the lowest p_ai, 0; it allows {allowed:,}"
        )
    return MissThreshold(lowest, len(generated), CONFIDENCE)


def allowed_errors(rows: int, rate: float) -> int | None:
    """Return how many rows of a class may be called the other one; None if they are too few.

    It is the largest k for which k or fewer of `rows` would be called so in at most 5 % of draws if
    the true rate were `rate`: the inverse of the Clopper-Pearson bound.
    """
    # The smallest k with at least 5 %, which is too many unless it is exactly 5 %.
    most = int(binom.ppf(1 - CONFIDENCE, rows, rate))
    while most >= 0 and binom.cdf(most, rows, rate) > 1 - CONFIDENCE:
        most -= 1
    return None if most < 0 else most


def true_positive_rates(
    scores: LabelledScores, thresholds: Mapping[str, Threshold]
) -> dict[str, float]:
    """Return the share of AI-generated rows that each threshold finds, by its rate as text.

    It is empty without such rows.
    """
    generated = scores.p_ai[scores.label_a == 1]
    if not len(generated):
        return {}
    return {
        rate: float(decide_ai(generated, threshold.p_ai).mean())
        for rate, threshold in thresholds.items()
    }
