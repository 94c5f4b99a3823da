"""Which shard is next, when one that failed is tried again, and when it is given up."""

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aigid.shards import Shard

# Until a shard is tried again: what ails it may be its storage, which needs time.
_FIRST_PAUSE_S = 2.0


@dataclass(frozen=True)
class ShardFailure:
    """A shard that was given up, and why it failed the last time."""

    shard: Shard
    reason: str

    def __str__(self) -> str:
        first, last = self.shard.segments[0], self.shard.segments[-1]
        rows = f"row {first.start} of {first.file.path} to row {last.stop - 1}"
        return f"shard {self.shard.index} ({rows if first is last else f'{rows} of {last.file.path}'}): {self.reason}"


class ShardQueue:
    """The shards of a plan in order, and those that failed again a while later, up to `attempts` times."""

    def __init__(
        self, shards: Iterator[Shard], attempts: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take shards from the iterator as they are asked for."""
        self._fresh, self._attempts, self._clock = shards, attempts, clock
        self._next = next(shards, None)
        self._again: list[tuple[float, int, Shard]] = []
        self._tried: dict[int, int] = {}

    def take(self, alone: bool) -> Shard | None:
        """The next shard to be scanned now, or None.

        One that failed before is given only to a worker that is `alone` with it: if it brings the worker down, then
        nothing else fails with it.
        """
        if alone and self._again and self._again[0][0] <= self._clock():
            return heapq.heappop(self._again)[2]
        shard = self._next
        if shard is not None:
            self._next = next(self._fresh, None)
        return shard

    def failed(self, shard: Shard, reason: str) -> ShardFailure | None:
        """Note that a shard failed; gives the failure where it was the last attempt."""
        tried = self._tried[shard.index] = self._tried.get(shard.index, 0) + 1
        if tried >= self._attempts:
            return ShardFailure(shard, reason)
        heapq.heappush(
            self._again, (self._clock() + _FIRST_PAUSE_S * 2 ** (tried - 1), shard.index, shard)
        )
        return None

    def tried(self, shard: Shard) -> int:
        """How often a shard has failed."""
        return self._tried.get(shard.index, 0)

    def __bool__(self) -> bool:
        """Whether there are shards to be taken, now or later."""
        return self._next is not None or bool(self._again)
