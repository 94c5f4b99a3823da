"""Rows grouped into batches of one token bucket: padding costs little, and the grouping depends on the rows alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from aigid.fetch import ImageReference


@dataclass(frozen=True)
class PairInput:
    """One manifest row on its way to the scorer: its position in the shard, its image and its prompt's token ids."""

    position: int
    image: ImageReference
    token_ids: list[int]


@dataclass(frozen=True)
class PairBatch:
    """Rows whose prompts share a bucket of `bucket` tokens."""

    bucket: int
    pairs: tuple[PairInput, ...]


class Batcher:
    """Collects rows by bucket, and gives out a batch whenever a bucket has `batch_rows` of them."""

    def __init__(self, batch_rows: int) -> None:
        """Start with no rows waiting."""
        self._batch_rows = batch_rows
        self._waiting: dict[int, list[PairInput]] = {}

    def add(self, bucket: int, pair: PairInput) -> PairBatch | None:
        """Take one row; the batch that it completes, if it does."""
        waiting = self._waiting.setdefault(bucket, [])
        waiting.append(pair)
        return self._take(bucket) if len(waiting) == self._batch_rows else None

    def flush(self) -> Iterator[PairBatch]:
        """The incomplete batches that are left, shortest prompts first."""
        for bucket in sorted(self._waiting):
            yield self._take(bucket)

    def _take(self, bucket: int) -> PairBatch:
        return PairBatch(bucket, tuple(self._waiting.pop(bucket)))
