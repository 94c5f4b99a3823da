"""Calls in parallel over a stream: results in order, and a bound on what is taken from it."""

import operator
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigid.bounded_map import BoundedWeight, bounded_map, map_in_pool


@given(st.lists(st.integers(), max_size=40), st.integers(1, 5))
def test_results_come_in_the_order_of_the_items(items: list[int], threads: int) -> None:
    def later(item: int) -> int:
        time.sleep(0.0005 * (item % 3))
        return item * 2

    assert list(bounded_map(later, items, threads)) == [item * 2 for item in items]


class Taken:
    """A stream of numbers that counts how many were taken."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        for item in range(1000):
            self.count += 1
            yield item


def test_no_more_items_are_taken_than_the_window_holds() -> None:
    taken = Taken()
    results = bounded_map(lambda item: item, taken, 3)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert taken.count <= 10 + 2 * 3


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_a_pool_of_the_callers_never_holds_more_than_the_limit(limit: int) -> None:
    taken = Taken()
    with ThreadPoolExecutor(2) as pool:
        results = map_in_pool(pool, lambda item: item, taken, limit)
        for done, result in enumerate(results):
            assert result == done
            assert taken.count - done <= limit
        assert taken.count == 1000


def test_items_in_progress_never_weigh_more_than_their_bound() -> None:
    weights = [3, 4, 9, 1, 1, 1, 30, 2, 10, 1]
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(len(weights)):
            taken.append(number)
            yield number

    def check(number: int) -> int:
        started.append(number)
        return number

    started: list[int] = []
    done = 0
    with ThreadPoolExecutor(2) as pool:
        bound = BoundedWeight(lambda number: weights[number], 10)
        for result in map_in_pool(pool, check, items(), 100, bound):
            # The item that was taken last waits for room; those before it are in progress.
            in_progress = taken[done:-1] if len(taken) < len(weights) else []
            assert result == done
            assert sum(weights[one] for one in in_progress) <= max(10, weights[done])
            done += 1
    assert done == len(weights) == len(started)


def test_the_pool_may_be_one_of_processes() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(map_in_pool(pool, operator.neg, range(20), 4)) == [-n for n in range(20)]


def test_calls_run_at_the_same_time() -> None:
    barrier = threading.Barrier(4, timeout=10)
    assert len(list(bounded_map(lambda _: barrier.wait(), range(4), 4))) == 4


def test_the_first_failure_ends_it_and_calls_that_wait_are_not_made() -> None:
    called = []

    def fail(item: int) -> int:
        called.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    results = bounded_map(fail, range(1000), 1)
    found = []
    with pytest.raises(ValueError, match="three"):
        for result in results:
            found.append(result)
    assert found == [0, 1, 2]
    assert len(called) < 10


class HeldPool(ThreadPoolExecutor):
    """A pool whose calls never begin."""

    def __init__(self) -> None:
        super().__init__(1)
        self.futures: list[Future[Any]] = []

    def submit(self, *call: Any, **options: Any) -> Future[Any]:
        self.futures.append(Future())
        return self.futures[-1]


def test_closing_the_results_cancels_the_calls_that_have_not_begun() -> None:
    pool = HeldPool()
    results = map_in_pool(pool, lambda item: item, range(1000), 4)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(next, results)
        while len(pool.futures) < 4:
            time.sleep(0.001)
        pool.futures[0].set_result(0)
        assert first.result() == 0
    results.close()
    assert [future.cancelled() for future in pool.futures] == [False, True, True, True]
