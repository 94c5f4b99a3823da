"""Images that cannot be had, and a network that is down."""

import pytest

from aigid.errors import StorageError
from aigid.fetch import CircuitBreaker
from aigid.records import ErrorCode, RowFailure
from aigid.storage.http import Unreachable


def fail(outages: CircuitBreaker, host: str) -> None:
    with outages.watch():
        raise Unreachable(ErrorCode.TIMEOUT, f"http://{host}/x.png: no connection", host)


def test_many_failures_in_a_row_of_many_hosts_are_an_outage() -> None:
    outages = CircuitBreaker()
    for number in range(63):
        with pytest.raises(Unreachable):
            fail(outages, f"host{number % 12}")
    with pytest.raises(
        StorageError,
        match=r"64 images in a row, from 12 hosts or more, .*http://host3/x.png: no connection",
    ):
        fail(outages, "host3")


def test_a_few_hosts_that_are_gone_are_none() -> None:
    outages = CircuitBreaker()
    for number in range(500):
        with pytest.raises(Unreachable):
            fail(outages, f"host{number % 11}")


@pytest.mark.parametrize(
    "answered", [None, RowFailure(ErrorCode.MISSING, "the server answers 404")]
)
def test_any_answer_in_between_means_that_the_network_is_there(answered: RowFailure | None) -> None:
    outages = CircuitBreaker()
    for number in range(500):
        with pytest.raises(Unreachable):
            fail(outages, f"host{number}")
        if number % 50 == 49:
            try:
                with outages.watch():
                    if answered is not None:
                        raise answered
            except RowFailure:
                pass
