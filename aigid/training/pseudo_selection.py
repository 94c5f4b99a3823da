"""Which pairs of a scan become pseudo-labels: the most confident ones.

Source: the NAU-QMUL system (arXiv 2602.23863). It keeps a pair where max(p, 1 - p) of head A and
the largest softmax of head B both reach a threshold, 0.8 in the submitted run. Here head B tells
generators apart and nothing else, so its threshold applies to AI-generated pairs only, and its
confidence is the likeliest generator's probability among the generators. A pair whose source is
"other" is not kept: head B does not know its generator.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aigid.errors import UsageError
from aigid.results import ResultsFolder, labels_of
from aigid.scorers import Scores
from aigid.shards import Shard


@dataclass(frozen=True)
class SelectionConfig:
    """The least confidence of each head, and the most pairs to keep of each class (None: all).

    Of a class with more pairs, the most confident are kept.
    """

    min_confidence_a: float = 0.8
    min_confidence_b: float = 0.8
    max_per_class: int | None = None

    def __post_init__(self) -> None:
        # Head A's confidence is max(p, 1 - p), which is never below 0.5.
        for name, lowest in (("min_confidence_a", 0.5), ("min_confidence_b", 0)):
            value = getattr(self, name)
            if not lowest <= value <= 1:
                raise UsageError(f"`{name}` must be between {lowest:g} and 1: got {value}")
        if self.max_per_class is not None and self.max_per_class < 1:
            raise UsageError(f"`max_per_class` must be 1 or more: got {self.max_per_class}")


class PseudoLabels(NamedTuple):
    """The pseudo-labels of N rows, [N] each.

    `kept` tells which rows are confident enough; `other` which ones would be, but their source is
    "other"; `label_b` is 0 (real) or the generator's index into the labels; `p_generator` is head
    B's confidence in it, and 1 for real rows.
    """

    kept: npt.NDArray[np.bool_]
    other: npt.NDArray[np.bool_]
    label_b: npt.NDArray[np.int32]
    p_generator: npt.NDArray[np.float32]


class KeptRow(NamedTuple):
    """The pseudo-label of one row that is kept."""

    label_b: int
    p_ai: float
    p_generator: float


def pseudo_labels(
    scores: Scores, config: SelectionConfig, open_set_threshold: float | None = None
) -> PseudoLabels:
    """Return the pseudo-labels of N rows, whatever `max_per_class` is.

    `scores` are the scan's, NaN for rows that were not scored. These are never kept.
    """
    p_ai, p_source = scores.p_ai, scores.p_source
    is_ai = p_ai > 0.5
    generators = p_source[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        p_generator = np.where(is_ai, generators.max(axis=1) / p_ai, 1).astype(np.float32)
        kept = np.maximum(p_ai, 1 - p_ai) >= config.min_confidence_a
        kept &= p_generator >= config.min_confidence_b
        unknown = np.zeros(len(p_ai), bool)
        if open_set_threshold is not None:
            unknown = is_ai & (scores.known_score < np.float32(open_set_threshold))
    kept &= ~np.isnan(p_ai)
    label_b = np.where(is_ai, 1 + generators.argmax(axis=1), 0).astype(np.int32)
    return PseudoLabels(kept & ~unknown, kept & unknown, label_b, p_generator)


class Selection:
    """The rows of a scan's shards that are kept."""

    def __init__(
        self, config: SelectionConfig, shards: Callable[[], Iterator[Shard]], results: ResultsFolder
    ) -> None:
        """With `max_per_class`, read the results of all shards to find the most confident rows.

        Raises ResultsError where a result file is damaged.
        """
        self._config, self.shards, self._results = config, shards, results
        self.labels, self._open_set_threshold = labels_of(results.read(next(shards()), ["p_ai"]))
        limit = config.max_per_class
        self._lowest = {} if limit is None else self._lowest_kept(limit)
        # Of rows as confident as the last one that is kept, the first in the manifest are kept.
        self._left = Counter(dict.fromkeys(range(len(self.labels)), limit or 0))
        self.others = 0

    def kept_rows(self, shard: Shard) -> dict[int, KeptRow]:
        """Return the kept rows of a shard by their position in it. Call it for shards in order.

        Adds to `others` the rows that are not kept because their source is "other".
        """
        found = {}
        read = self._read(shard)
        self.others += int(read.labels.other.sum())
        for position, row in read.kept_rows():
            if self._config.max_per_class is not None:
                if _confidence(row) < self._lowest[row.label_b] or not self._left[row.label_b]:
                    continue
                self._left[row.label_b] -= 1
            found[position] = row
        return found

    def _lowest_kept(self, limit: int) -> dict[int, float]:
        """Return by class the confidence of the last row that is kept; 0 where all rows are."""
        heaps: dict[int, list[float]] = {label: [] for label in range(len(self.labels))}
        for shard in self.shards():
            for _, row in self._read(shard).kept_rows():
                heap = heaps[row.label_b]
                push = heapq.heappush if len(heap) < limit else heapq.heappushpop
                push(heap, _confidence(row))
        return {label: heap[0] if len(heap) == limit else 0.0 for label, heap in heaps.items()}

    def _read(self, shard: Shard) -> "_ShardLabels":
        results = self._results.read(shard, ["p_ai", "p_source", "known_score"])
        p_ai, known_score = (
            results.column(name).to_numpy().astype(np.float32) for name in ("p_ai", "known_score")
        )
        p_source = (
            results.column("p_source").combine_chunks().fill_null([np.nan] * len(self.labels))
        )
        flat = p_source.flatten().to_numpy(zero_copy_only=False)
        scores = Scores(p_ai, flat.reshape(-1, len(self.labels)), known_score)
        return _ShardLabels(p_ai, pseudo_labels(scores, self._config, self._open_set_threshold))


class _ShardLabels(NamedTuple):
    """The pseudo-labels of a shard's rows."""

    p_ai: npt.NDArray[np.float32]
    labels: PseudoLabels

    def kept_rows(self) -> Iterator[tuple[int, KeptRow]]:
        """Yield position and pseudo-label of the rows that both heads are confident about."""
        for position in np.flatnonzero(self.labels.kept).tolist():
            yield (
                position,
                KeptRow(
                    int(self.labels.label_b[position]),
                    float(self.p_ai[position]),
                    float(self.labels.p_generator[position]),
                ),
            )


def _confidence(row: KeptRow) -> float:
    return max(row.p_ai, 1 - row.p_ai) * row.p_generator
