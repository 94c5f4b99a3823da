"""Threads wait for memory, in turn; memory that runs out never decides an answer."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock

import numpy as np
import pytest

from aigid.errors import AigidError
from aigid.pixels import memory_budget
from aigid.pixels.memory_budget import MemoryBudget, retry_alone

MB = 1_000_000


def test_what_is_reserved_at_a_time_stays_within_the_budget() -> None:
    budget, lock, used, most = MemoryBudget(500 * MB), Lock(), [0], [0]

    def work(size: int) -> int:
        with budget.reserve(size):
            with lock:
                used[0] += size
                most[0] = max(most[0], used[0])
            with lock:
                used[0] -= size
        return size

    sizes = [(100 + 37 * index % 400) * MB for index in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, sizes)) == sizes
    assert 0 < most[0] <= 500 * MB


def test_small_images_do_not_wait() -> None:
    budget = MemoryBudget(500 * MB)
    with budget.reserve(500 * MB), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: budget.reserve(10 * MB).__enter__()).result(timeout=30) is None


def test_an_image_of_more_than_everything_is_decoded_alone() -> None:
    budget = MemoryBudget(500 * MB)
    with budget.reserve(900 * MB):
        pass
    with budget.reserve(500 * MB):
        pass


def test_a_large_image_has_its_turn_before_those_that_came_later() -> None:
    budget, order, held, release = MemoryBudget(500 * MB), [], Event(), Event()

    def hold() -> None:
        with budget.reserve(300 * MB):
            held.set()
            release.wait(30)

    def work(size: int) -> None:
        with budget.reserve(size * MB):
            order.append(size)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(hold)
        assert held.wait(30)
        waiting = pool.submit(work, 400)
        while not budget._waiting:
            pass
        later = pool.submit(work, 100)
        while len(budget._waiting) < 2:
            pass
        release.set()
        for one in (first, waiting, later):
            one.result(timeout=30)
    assert order == [400, 100]


def test_a_failure_gives_its_memory_back() -> None:
    budget = MemoryBudget(500 * MB)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), budget.reserve(400 * MB):
            raise ValueError("damaged")


class Attempts:
    """Runs out of memory in its first attempts."""

    def __init__(self, failing: int) -> None:
        self.left = failing

    def __call__(self) -> str:
        with memory_budget.DECODING.reserve(200 * MB):
            if self.left:
                self.left -= 1
                raise MemoryError
        return "pixels"


def test_what_ran_out_of_memory_is_decoded_again_alone() -> None:
    assert retry_alone(Attempts(0), MB) == "pixels"
    assert retry_alone(Attempts(1), MB) == "pixels"


def test_an_image_that_asks_for_more_than_its_header_told_is_at_fault() -> None:
    with pytest.raises(ValueError, match="more than 1 MB of memory"):
        retry_alone(Attempts(2), MB)


def test_a_host_without_memory_is_an_error_of_the_scan() -> None:
    # No host has this much.
    with pytest.raises(AigidError, match="fewer threads"):
        retry_alone(Attempts(2), np.iinfo(np.int64).max // 2)


def test_threads_that_all_ran_out_of_memory_do_not_wait_for_each_other() -> None:
    together = Barrier(4)

    def work(_: int) -> str:
        attempts = Attempts(1)
        together.wait(30)
        return retry_alone(attempts, MB)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4), timeout=60)) == ["pixels"] * 4
