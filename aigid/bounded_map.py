"""Many calls at a time over a stream: results in order, and a bound on what is held in memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class BoundedWeight(Generic[Item]):
    """A bound on what items weigh together: one item may weigh more, but then it is alone."""

    weigh: Callable[[Item], int]
    most: int


def bounded_map(
    function: Callable[[Item], Answer], items: Iterable[Item], threads: int
) -> Generator[Answer, None, None]:
    """Yield `function` of each item, in order, from `threads` threads of its own.

    Items are taken from the stream as calls are made, unlike with `Executor.map`, which takes all
    of them first: at most twice as many results as there are threads are in progress or wait to be
    taken. The first exception ends the stream, and so does closing it; calls that have not begun
    are not made then, and those that have begun are not waited for.
    """
    pool = ThreadPoolExecutor(threads)
    try:
        yield from map_in_pool(pool, function, items, 2 * threads)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def map_in_pool(
    pool: Executor,
    function: Callable[[Item], Answer],
    items: Iterable[Item],
    limit: int,
    bounded_weight: BoundedWeight[Item] | None = None,
) -> Generator[Answer, None, None]:
    """Yield `function` of each item, in order, as `bounded_map` does, from a pool of the caller's.

    The pool may be one of threads or of processes. At most `limit` results are in progress or wait
    to be taken, and no item joins them with which their items would exceed `bounded_weight`.
    """
    weigh, most = (bounded_weight.weigh, bounded_weight.most) if bounded_weight else (_nothing, 0)
    running: deque[tuple[Future[Answer], int]] = deque()
    total = 0
    try:
        for item in items:
            weight = weigh(item)
            while running and total + weight > most:
                total -= running[0][1]
                yield running.popleft()[0].result()
            running.append((pool.submit(function, item), weight))
            total += weight
            if len(running) >= limit:
                total -= running[0][1]
                yield running.popleft()[0].result()
        while running:
            yield running.popleft()[0].result()
    finally:
        for future, _ in running:
            future.cancel()


def _nothing(item: object) -> int:
    return 0
