"""The queue of fetches: a busy host takes no threads from the others."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from aigid.fetch import FetchPolicy, HostQueue, ImageReference, web_host
from aigid.records import ErrorCode, RowFailure
from aigid.storage import locate


def test_the_images_of_a_slow_host_leave_threads_for_others() -> None:
    pool = ThreadPoolExecutor(4)
    queue, released = HostQueue(pool, 2), threading.Event()

    def slow() -> bytes:
        released.wait(10)
        return b"slow"

    waiting = [queue.submit("slow", slow) for _ in range(50)]
    others = [queue.submit(f"host{number % 9}", lambda: b"fast") for number in range(50)]
    stored = [queue.submit(None, lambda: b"object") for _ in range(50)]
    assert {future.result(10) for future in others} == {b"fast"}
    assert {future.result(10) for future in stored} == {b"object"}
    assert not any(future.done() for future in waiting)
    released.set()
    assert [future.result(10) for future in waiting] == [b"slow"] * 50
    queue.close()
    assert not queue._waiting


def test_one_host_has_so_many_fetches_at_a_time() -> None:
    pool, lock = ThreadPoolExecutor(8), threading.Lock()
    queue, together, counts = HostQueue(pool, 3), threading.Barrier(3), [0, 0]

    def fetch() -> bytes:
        with lock:
            counts[0] += 1
            counts[1] = max(counts)
        together.wait(10)
        with lock:
            counts[0] -= 1
        return b""

    for future in [queue.submit("host", fetch) for _ in range(12)]:
        assert future.result(10) == b""
    assert counts == [0, 3]
    queue.close()


def test_an_error_is_raised_where_the_result_is_taken_and_the_next_goes_on() -> None:
    queue = HostQueue(ThreadPoolExecutor(1), 1)

    def fail() -> bytes:
        raise RowFailure(ErrorCode.MISSING, "gone")

    futures = [queue.submit("host", fail) for _ in range(3)] + [queue.submit("host", lambda: b"x")]
    for future in futures[:3]:
        with pytest.raises(RowFailure, match="gone"):
            future.result(10)
    assert futures[3].result(10) == b"x"
    queue.close()


def test_closing_cancels_what_waits() -> None:
    queue, started, released = (
        HostQueue(ThreadPoolExecutor(1), 1),
        threading.Event(),
        threading.Event(),
    )

    def wait() -> bytes:
        started.set()
        released.wait(10)
        return b"done"

    running = queue.submit("host", wait)
    started.wait(10)
    waiting = [queue.submit(host, wait) for host in ("host", "host", "other", None)]
    queue.close()
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(10)
    released.set()
    assert running.result(10) == b"done"


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("http://Host.example/x.png", "host.example"),
        ("https://me:pass@host.example:81/x.png", "host.example:81"),
        ("s3://bucket/x.png", None),
    ],
)
def test_the_host_of_an_image(path: str, host: str | None) -> None:
    assert web_host(ImageReference(None, path), FetchPolicy(None)) == host


def test_the_host_of_an_image_relative_to_a_manifest_on_the_web() -> None:
    policy = FetchPolicy(locate("https://host.example:81/data"))
    assert web_host(ImageReference(None, "x.png"), policy) == "host.example:81"
