"""Threads wait for memory, in turn."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import pytest

from aigid.memory_budget import MemoryBudget

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
