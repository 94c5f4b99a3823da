"""Calls in parallel over a stream: answers in order, no more taken from the stream than are worked on."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigid.bounded_map import bounded_map


@given(st.lists(st.integers(), max_size=40), st.integers(1, 5))
def test_answers_come_in_the_order_of_the_items(items: list[int], threads: int) -> None:
    def later(item: int) -> int:
        time.sleep(0.0005 * (item % 3))
        return item * 2

    assert list(bounded_map(later, items, threads)) == [item * 2 for item in items]


def test_no_more_items_are_taken_than_a_window_holds() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    answers = bounded_map(lambda item: item, items(), 3)
    assert [next(answers) for _ in range(10)] == list(range(10))
    assert len(taken) <= 10 + 2 * 3


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

    answers = bounded_map(fail, range(1000), 1)
    found = []
    with pytest.raises(ValueError, match="three"):
        for answer in answers:
            found.append(answer)
    assert found == [0, 1, 2]
    assert len(called) < 10
