"""Many calls at a time over a stream, answers in order, nothing held beyond a window."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def bounded_map(
    function: Callable[[Item], Answer], items: Iterable[Item], threads: int
) -> Iterator[Answer]:
    """`function` of each item, in order; `threads` calls at a time, and as many answers kept waiting.

    Items are taken from the stream as calls are made, unlike with `Executor.map`, which takes all of them first. The
    first exception ends it.
    """
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[Answer]] = deque()
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) >= 2 * threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
