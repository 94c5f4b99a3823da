"""Which pairs of a scan become pseudo-labels: those that both heads are sure about, of each class the surest.

Source: the NAU-QMUL system (arXiv 2602.23863), which keeps a pair where max(p, 1 - p) of head A and the largest softmax of
head B reach a threshold, 0.8 in the submitted run. Here head B speaks of generators alone, so it has a say in AI-generated
pairs only, with the generator's share among the five.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aigid.errors import UsageError
from aigid.records import SOURCES
from aigid.results import ResultsFolder
from aigid.shards import Shard


@dataclass(frozen=True)
class SelectionConfig:
    """From which probability on each head counts as sure, and how many pairs of a class are kept: the surest, or all."""

    head_a: float = 0.8
    head_b: float = 0.8
    max_per_class: int | None = None

    def __post_init__(self) -> None:
        if not (0.5 <= self.head_a <= 1 and 0 <= self.head_b <= 1):
            raise UsageError(
                f"to be sure is a probability, of head A at least 0.5: got {self.head_a} and {self.head_b}"
            )


def pseudo_labels(
    p_ai: npt.NDArray[np.float32], p_source: npt.NDArray[np.float32], sure: SelectionConfig
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """For N rows: which are kept, their Label_B (0 real, 1 to 5 the generator), and the generator's share, 1 for real ones.

    `p_ai` float32 [N] and `p_source` float32 [N, 6] are the scan's; NaN where a row was not scored, which is never kept.
    """
    ai = p_ai > 0.5
    generators = p_source[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(ai, generators.max(axis=1) / p_ai, 1).astype(np.float32)
        kept = (np.maximum(p_ai, 1 - p_ai) >= sure.head_a) & (share >= sure.head_b)
    return (
        kept & ~np.isnan(p_ai),
        np.where(ai, 1 + generators.argmax(axis=1), 0).astype(np.int32),
        share,
    )


class Selection:
    """Which rows of a scan's shards are kept: those that are sure, of each class the surest."""

    def __init__(
        self, sure: SelectionConfig, shards: Callable[[], Iterator[Shard]], results: ResultsFolder
    ) -> None:
        """Look through all shards where only the surest are kept; raises ResultsError where a result file is damaged."""
        self._sure, self.shards, self._results = sure, shards, results
        self._least = self._surest() if sure.max_per_class is not None else {}
        # Of several as sure as the last that is kept, the first are.
        self._left = Counter(dict.fromkeys(range(len(SOURCES)), sure.max_per_class or 0))

    def labels(self, shard: Shard) -> dict[int, tuple[int, float, float]]:
        """By position in the shard: Label_B, p_ai and the generator's share of the rows that are kept. Shards in order."""
        found = {}
        p_ai, kept, labels, share = self._answers(shard)
        for position in np.flatnonzero(kept).tolist():
            label = int(labels[position])
            if self._sure.max_per_class is not None:
                if (
                    _certainty(p_ai[position], share[position]) < self._least[label]
                    or not self._left[label]
                ):
                    continue
                self._left[label] -= 1
            found[position] = (label, float(p_ai[position]), float(share[position]))
        return found

    def _surest(self) -> dict[int, float]:
        """For each class, how sure the last pair is that is kept; 0 where all are."""
        most = self._sure.max_per_class or 0
        heaps: dict[int, list[float]] = {label: [] for label in range(len(SOURCES))}
        for shard in self.shards():
            p_ai, kept, labels, share = self._answers(shard)
            for position in np.flatnonzero(kept).tolist():
                heap, certainty = (
                    heaps[int(labels[position])],
                    _certainty(p_ai[position], share[position]),
                )
                (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, certainty)
        return {label: heap[0] if len(heap) == most else 0.0 for label, heap in heaps.items()}

    def _answers(self, shard: Shard) -> tuple[npt.NDArray[np.float32], Any, Any, Any]:
        answers = self._results.read(shard, ["p_ai", "p_source"])
        p_ai = answers.column("p_ai").to_numpy().astype(np.float32)
        flat = (
            answers.column("p_source").combine_chunks().fill_null([np.nan] * len(SOURCES)).flatten()
        )
        return p_ai, *pseudo_labels(
            p_ai, flat.to_numpy(zero_copy_only=False).reshape(-1, len(SOURCES)), self._sure
        )


def _certainty(p_ai: np.float32, share: np.float32) -> float:
    return max(float(p_ai), 1 - float(p_ai)) * float(share)
