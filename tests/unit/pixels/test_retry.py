"""Memory that runs out never decides an answer."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from aigid.errors import AigidError
from aigid.memory_budget import LARGE_ROWS
from aigid.pixels.retry import retry_alone

MB = 1_000_000


class Attempts:
    """Runs out of memory in its first attempts."""

    def __init__(self, failing: int) -> None:
        self.left = failing

    def __call__(self) -> str:
        with LARGE_ROWS.reserve(200 * MB):
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
