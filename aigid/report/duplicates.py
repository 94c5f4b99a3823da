"""Duplicates over any number of rows, counted within a bound on memory."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST_VALUES = 1 << 24
_MIXER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Duplicates:
    """Rows that repeat an earlier value: `repeats`; and the values that `groups` of rows share.

    `largest` is the number of rows in the largest group. `sampled` is None where every value was
    counted; otherwise one of so many values was, and the counts are estimates.
    """

    rows: int
    repeats: int
    groups: int
    largest: int
    sampled: int | None


class DuplicateCounter:
    """Counts how often values are there again.

    Beyond `most` of them, all rows of a random half of the values are left out, then of a half of
    the rest, and so on, so that groups stay whole.
    """

    def __init__(self, most: int = _MOST_VALUES) -> None:
        self._most, self._halvings = most, 0
        self._parts: list[npt.NDArray[np.uint64]] = []
        self._held = 0

    def add(self, values: npt.NDArray[np.uint64]) -> None:
        """Count values."""
        part = values[self._is_sampled(values)]
        self._parts.append(part)
        self._held += len(part)
        while self._held > self._most:
            self._halvings += 1
            # Each part by itself, so that memory does not double.
            self._parts = [one[self._is_sampled(one)] for one in self._parts]
            self._held = sum(map(len, self._parts))

    def duplicates(self) -> Duplicates:
        """Return what was counted, and forget it."""
        return self.duplicates_and_values()[0]

    def duplicates_and_values(self) -> tuple[Duplicates, npt.NDArray[np.uint64]]:
        """Return what was counted, and each value once; and forget them."""
        values = np.concatenate([*self._parts, np.empty(0, np.uint64)])
        self._parts, self._held = [], 0
        values.sort()
        starts = np.flatnonzero(np.diff(values, prepend=values[:1] + np.uint64(1)))
        sizes = np.diff(starts, append=len(values))
        scale = 1 << self._halvings
        found = Duplicates(
            rows=len(values) * scale,
            repeats=(len(values) - len(sizes)) * scale,
            groups=int((sizes > 1).sum()) * scale,
            largest=int(sizes.max(initial=0)),
            sampled=scale if self._halvings else None,
        )
        return found, values[starts]

    def _is_sampled(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        if not self._halvings:
            return np.ones(len(values), bool)
        # Perceptual hashes are not evenly spread; their products with an odd number are.
        mixed = (values * _MIXER) >> np.uint64(64 - self._halvings)
        return np.asarray(mixed == 0)
