"""95 % confidence intervals of a share of rows and of an AUROC."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from aigid.contract import CONFIDENCE

_QUANTILE = 1.959963984540054
"""Of the standard normal distribution, at (1 + CONFIDENCE) / 2."""
_TINY = 1e-12


class Interval(NamedTuple):
    """The two ends of a 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Proportion:
    """The share of `count` rows among `rows`."""

    count: int
    rows: int

    @classmethod
    def of(cls, chosen: npt.NDArray[np.bool_]) -> "Proportion":
        """Return the share of the rows that are True."""
        return cls(int(chosen.sum()), len(chosen))

    @property
    def value(self) -> float | None:
        """The share; None without rows."""
        return self.count / self.rows if self.rows else None

    @property
    def interval(self) -> Interval | None:
        """Wilson's interval; None without rows."""
        if not self.rows:
            return None
        share, spread = self.count / self.rows, _QUANTILE**2 / self.rows
        middle = (share + spread / 2) / (1 + spread)
        half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
        return Interval(max(middle - half, 0.0), min(middle + half, 1.0))

    def to_json(self) -> dict[str, Any]:
        """Return the share, its interval and its rows as they stand in metrics.json."""
        interval = None if self.interval is None else list(self.interval)
        return {"value": self.value, "interval": interval, "rows": self.rows}


def auroc_interval(auroc: float, positives: int, negatives: int) -> Interval:
    """Return the interval of an AUROC that was measured on so many rows of both classes.

    A score interval, which has a width at 0 and 1 too. Source: Newcombe, Confidence intervals for
    an effect size measure based on the Mann-Whitney statistic, part 2 (2006), method 5.
    """
    mean_rows = (positives + negatives) / 2 - 1

    def half_width(true: float) -> float:
        spread = 1 + mean_rows * ((1 - true) / (2 - true) + true / (1 + true))
        return _QUANTILE * math.sqrt(true * (1 - true) * spread / (positives * negatives))

    def end(side: int, limit: float) -> float:
        """Return the AUROC from which the measured one is just as far as chance allows."""
        if auroc == limit:
            return limit
        # Next to the measured AUROC the difference is less than the half width.
        near = min(max(auroc, _TINY), 1 - _TINY)
        bracket = sorted((near, limit))
        return float(brentq(lambda true: side * (true - auroc) - half_width(true), *bracket))

    return Interval(end(-1, 0.0), end(1, 1.0))


def lowest_rate_shown(real_rows: int) -> float:
    """Return the lowest false-positive rate that so many real rows can show: 1 without rows."""
    return float(1 - (1 - CONFIDENCE) ** (1 / real_rows)) if real_rows else 1.0
