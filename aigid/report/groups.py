"""Drift: the same figures for groups of rows, by manifest file, runs of rows or a kept column."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from aigid.report.rows import FAILED, VERDICTS, CodedColumn, ResultRows

# What comes after so many groups is counted together.
_MOST_GROUPS = 100_000
OTHER_GROUPS, NO_VALUE = "(other values)", "(no value)"
_AI = VERDICTS.index("ai")
_CONFIDENCE = 0.99


@dataclass(frozen=True)
class Group:
    """A group of rows: `low` and `high` bound the true share of AI verdicts, at 95 %.

    `differs` tells that chance hardly explains how far its share is from that of all rows.
    """

    name: str
    rows: int
    failed: int
    ai: int
    mean_score: float
    share: float
    low: float
    high: float
    distance: float
    differs: bool


class GroupCounts:
    """Counts rows, errors, AI verdicts and scores by group, in the order in which groups come."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._counts: npt.NDArray[np.float64] = np.zeros((64, 4))

    def add(self, groups: CodedColumn, rows: ResultRows) -> None:
        """Count the rows of a result file."""
        names = [*groups.names, NO_VALUE]
        used = np.unique(groups.codes)
        places = np.zeros(len(names), np.int64)
        for code in used.tolist():
            places[code] = self._place(names[code])
        of_row = places[groups.codes]
        scored = ~np.isnan(rows.p_ai)
        for column, weights in enumerate(
            (None, rows.verdict == FAILED, rows.verdict == _AI, np.where(scored, rows.p_ai, 0))
        ):
            self._counts[:, column] += np.bincount(of_row, weights, len(self._counts))

    def __len__(self) -> int:
        return len(self._places)

    def groups(self) -> list[Group]:
        """Return all groups, in the order in which they came."""
        counts = self._counts[: len(self._places)]
        scored, ai = (counts[:, 0] - counts[:, 1]).sum(), counts[:, 2].sum()
        share = ai / scored if scored else 0.0
        tests = max(1, len(self._places))
        # Bonferroni: of all groups together, hardly one differs by chance.
        limit = NormalDist().inv_cdf(1 - (1 - _CONFIDENCE) / 2 / tests)
        return [
            _group(name, counts[place].tolist(), share, limit)
            for name, place in self._places.items()
        ]

    def _place(self, name: str) -> int:
        if name not in self._places:
            if len(self._places) >= _MOST_GROUPS and name != OTHER_GROUPS:
                return self._place(OTHER_GROUPS)
            self._places[name] = len(self._places)
            if len(self._places) > len(self._counts):
                self._counts = np.pad(self._counts, ((0, len(self._counts)), (0, 0)))
        return self._places[name]


def _group(name: str, counts: list[float], share: float, limit: float) -> Group:
    rows, failed, ai, total = counts
    scored = rows - failed
    low, high = share_interval(ai, scored)
    error = (share * (1 - share) / scored) ** 0.5 if scored else 0.0
    distance = abs(ai / scored - share) / error if scored and error else 0.0
    return Group(
        name=name,
        rows=int(rows),
        failed=int(failed),
        ai=int(ai),
        mean_score=total / scored if scored else 0.0,
        share=ai / scored if scored else 0.0,
        low=low,
        high=high,
        distance=distance,
        differs=distance > limit,
    )


def share_interval(hits: float, trials: float) -> tuple[float, float]:
    """Return Wilson's interval, at 95 %, for a share."""
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.975)
    share, scale = hits / trials, 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
