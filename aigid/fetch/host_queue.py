"""Fetches that wait for their turn at a busy host without a thread."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from threading import Lock
from typing import Generic, TypeVar

Fetched = TypeVar("Fetched")


class HostQueue(Generic[Fetched]):
    """Runs fetches in the threads of a pool, at most `most` for one host at a time.

    The HTTP client holds the same limit. Here it keeps the threads free: without this queue, the
    images of one slow host would soon hold them all.
    """

    def __init__(self, pool: Executor, most: int) -> None:
        self._pool, self._most = pool, most
        self._lock = Lock()
        self._running: Counter[str] = Counter()
        self._waiting: defaultdict[str, deque[tuple[Future[Fetched], Callable[[], Fetched]]]] = (
            defaultdict(deque)
        )

    def submit(self, host: str | None, fetch: Callable[[], Fetched]) -> "Future[Fetched]":
        """Run a fetch when its host has less than `most`; at once where `host` is None.

        A fetch that has not begun can be cancelled.
        """
        if host is None:
            return self._pool.submit(fetch)
        future: Future[Fetched] = Future()
        with self._lock:
            if self._running[host] >= self._most:
                self._waiting[host].append((future, fetch))
            else:
                self._running[host] += 1
                self._start(host, future, fetch)
        return future

    def close(self) -> None:
        """Cancel what waits, and do not wait for what runs."""
        with self._lock:
            waiting = [future for queue in self._waiting.values() for future, _ in queue]
            self._waiting.clear()
        for future in waiting:
            future.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, host: str, future: "Future[Fetched]", fetch: Callable[[], Fetched]) -> None:
        running = self._pool.submit(self._run, host, future, fetch)
        running.add_done_callback(lambda done: done.cancelled() and future.cancel())

    def _run(self, host: str, future: "Future[Fetched]", fetch: Callable[[], Fetched]) -> None:
        if not future.set_running_or_notify_cancel():
            self._start_next(host)
            return
        try:
            data = fetch()
        except BaseException as error:  # noqa: BLE001 - raised by the thread that takes the result
            future.set_exception(error)
        else:
            future.set_result(data)
        finally:
            self._start_next(host)

    def _start_next(self, host: str) -> None:
        with self._lock:
            queue = self._waiting.get(host)
            if queue:
                self._start(host, *queue.popleft())
                return
            self._waiting.pop(host, None)
            self._running[host] -= 1
            if not self._running[host]:
                del self._running[host]
