"""Many calls at a time over a stream: results in order, and a bound on what is held in memory."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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
    pool: Executor, function: Callable[[Item], Answer], items: Iterable[Item], limit: int
) -> Generator[Answer, None, None]:
    """Yield `function` of each item, in order, as `bounded_map` does, from a pool of the caller's.

    The pool may be one of threads or of processes. At most `limit` results are in progress or wait
    to be taken.
    """
    running: deque[Future[Answer]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) >= limit:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()
