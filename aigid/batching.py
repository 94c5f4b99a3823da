"""Pairs in batches of one token bucket, and the decoding of a batch.

The scan and Detector share this. Batches of one bucket need little padding. They depend on the
pairs alone, never on timing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from aigid.pixels import Pixels
from aigid.prompts import TokenBatch, pad_to_bucket
from aigid.records import RowError, RowFailure

Image = TypeVar("Image")

WAITING_BYTES = 64 << 20
"""The bytes of encoded images that may wait for a full batch, in all buckets together.

Ordinary images never reach it, so their batches depend on the numbers of tokens alone.
"""


@dataclass(frozen=True)
class PairInput(Generic[Image]):
    """A pair on its way to the scorer: its position, its image in any form, its token ids.

    `held_bytes` is the size of an image that is in memory already.
    """

    position: int
    image: Image
    token_ids: list[int]
    held_bytes: int = 0


@dataclass(frozen=True)
class PairBatch(Generic[Image]):
    """Pairs whose prompts share a bucket of `bucket` tokens."""

    bucket: int
    pairs: tuple[PairInput[Image], ...]

    @property
    def held_bytes(self) -> int:
        """The bytes of the images that are in memory already."""
        return sum(pair.held_bytes for pair in self.pairs)


@dataclass(frozen=True)
class DecodedBatch:
    """A decoded batch: the positions of the decoded pairs, their tensors, and the others' errors.

    `tensors` is None if no image could be decoded.
    """

    positions: list[int]
    tensors: tuple[Pixels, TokenBatch] | None
    errors: dict[int, RowError]


class BatchQueue:
    """How many batches wait for a thread, and how many threads and servers work on."""

    def __init__(self) -> None:
        self.waiting = self.in_flight = 0
        self._lock = Lock()

    def add(self) -> None:
        """Count a batch that waits."""
        with self._lock:
            self.waiting += 1

    def begin(self) -> None:
        """Count a waiting batch as one that a thread works on."""
        with self._lock:
            self.waiting -= 1
            self.in_flight += 1

    def end(self) -> None:
        """Forget a batch whose answers are there."""
        with self._lock:
            self.in_flight -= 1


def batch_by_bucket(
    pairs: Iterable[PairInput[Image]],
    bucket_of: Callable[[int], int],
    batch_rows: int,
    waiting_bytes: int = WAITING_BYTES,
) -> Iterator[PairBatch[Image]]:
    """Yield a batch whenever a bucket has `batch_rows` pairs; in the end, the incomplete batches.

    `bucket_of` gives the bucket for a number of tokens (`PromptEncoder.bucket`). Within a bucket
    the pairs keep their order. The incomplete batches begin with the shortest prompts. Before the
    images that wait would exceed `waiting_bytes`, the bucket with most bytes is yielded as it is:
    so a batch has at most `waiting_bytes` of images, or one larger image.
    """
    waiting: dict[int, list[PairInput[Image]]] = {}
    held: Counter[int] = Counter()
    for pair in pairs:
        while waiting and held.total() + pair.held_bytes > waiting_bytes:
            largest = max(sorted(waiting), key=held.__getitem__)
            del held[largest]
            yield PairBatch(largest, tuple(waiting.pop(largest)))
        bucket = bucket_of(len(pair.token_ids))
        waiting.setdefault(bucket, []).append(pair)
        held[bucket] += pair.held_bytes
        if len(waiting[bucket]) == batch_rows:
            del held[bucket]
            yield PairBatch(bucket, tuple(waiting.pop(bucket)))
    for bucket in sorted(waiting):
        yield PairBatch(bucket, tuple(waiting.pop(bucket)))


def decode_batch(
    batch: PairBatch[Image], decode: Callable[[PairInput[Image]], Pixels | None]
) -> DecodedBatch:
    """Decode each image, and pad the prompts of those that could be.

    `decode` raises RowFailure for an image that cannot be read, and returns None for a pair that
    needs no scores: it is left out.
    """
    images: Pixels | None = None
    decoded: list[PairInput[Image]] = []
    errors: dict[int, RowError] = {}
    for pair in batch.pairs:
        try:
            pixels = decode(pair)
        except RowFailure as failure:
            errors[pair.position] = failure.error
            continue
        if pixels is None:
            continue
        if images is None:
            # One array from the start: stacking at the end would need the memory twice.
            images = np.empty((len(batch.pairs), *pixels.shape), pixels.dtype)
        images[len(decoded)] = pixels
        decoded.append(pair)
    if images is None:
        return DecodedBatch([], None, errors)
    tokens = pad_to_bucket([pair.token_ids for pair in decoded], batch.bucket)
    positions = [pair.position for pair in decoded]
    return DecodedBatch(positions, (images[: len(decoded)], tokens), errors)
