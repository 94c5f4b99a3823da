"""The order of shards: which is next, when a failed one is retried, and when it is given up."""

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aigid.shards import Shard

# The pause before a retry; it doubles each time. A failing storage may need time.
_FIRST_PAUSE_S = 2.0


@dataclass(frozen=True)
class ShardFailure:
    """A shard that was given up, and the reason of its last failure."""

    shard: Shard
    reason: str

    def __str__(self) -> str:
        first, last = self.shard.segments[0], self.shard.segments[-1]
        end = "the end" if last.stop is None else f"row {last.file.first_row + last.stop - 1}"
        rows = f"row {first.file.first_row + first.start} of {first.file.path} to {end}"
        place = rows if first.file.path == last.file.path else f"{rows} of {last.file.path}"
        return f"shard {self.shard.index} ({place}): {self.reason}"


class ShardQueue:
    """The shards of a plan in order. A failed shard comes again, up to `attempts` times in all."""

    def __init__(
        self, shards: Iterator[Shard], attempts: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take shards from the iterator only as they are needed."""
        self._fresh, self._attempts, self._clock = shards, attempts, clock
        self._next = next(shards, None)
        self._retries: list[tuple[float, int, Shard]] = []
        self._failures: dict[int, int] = {}

    def take(self, alone: bool) -> Shard | None:
        """Return the next shard to scan now, or None.

        A shard that failed before goes only to a worker with no other shard (`alone`): if it kills
        the worker, no other shard fails with it.
        """
        if alone and self._retries and self._retries[0][0] <= self._clock():
            return heapq.heappop(self._retries)[2]
        shard = self._next
        if shard is not None:
            self._next = next(self._fresh, None)
        return shard

    def failed(self, shard: Shard, reason: str) -> ShardFailure | None:
        """Record a shard's failure; returns it if that was the last attempt."""
        failures = self._failures[shard.index] = self._failures.get(shard.index, 0) + 1
        if failures >= self._attempts:
            return ShardFailure(shard, reason)
        retry_at = self._clock() + _FIRST_PAUSE_S * 2 ** (failures - 1)
        heapq.heappush(self._retries, (retry_at, shard.index, shard))
        return None

    def tried(self, shard: Shard) -> int:
        """Return how often a shard has failed."""
        return self._failures.get(shard.index, 0)

    def __bool__(self) -> bool:
        """Whether any shard is left, now or after a pause."""
        return self._next is not None or bool(self._retries)
