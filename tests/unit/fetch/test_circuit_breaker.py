"""The circuit breaker: single images that cannot be fetched, and a network that is down."""

import pytest

from aigid.errors import StorageError
from aigid.fetch import CircuitBreaker
from aigid.fetch.from_web import HostUnreachable
from aigid.records import ErrorCode, RowFailure


def fail(breaker: CircuitBreaker, host: str) -> None:
    with breaker.watch():
        raise HostUnreachable(ErrorCode.TIMEOUT, f"http://{host}/x.png: no connection", host)


def test_many_failures_in_a_row_of_many_hosts_end_the_scan() -> None:
    breaker = CircuitBreaker()
    for number in range(63):
        with pytest.raises(HostUnreachable):
            fail(breaker, f"host{number % 12}")
    with pytest.raises(
        StorageError,
        match=r"64 images in a row, from 12 hosts or more, .*http://host3/x.png: no connection\): "
        r"check the network, then run the scan again",
    ):
        fail(breaker, "host3")


def test_a_store_that_does_not_deliver_ends_the_scan() -> None:
    breaker = CircuitBreaker()

    def fail_in_store() -> None:
        with breaker.watch():
            raise HostUnreachable(ErrorCode.TIMEOUT, "x.png: 500", "s3://data", is_store=True)

    for _ in range(63):
        with pytest.raises(HostUnreachable):
            fail_in_store()
    with pytest.raises(StorageError, match=r"64 images in a row, from object stores, .*x.png: 500"):
        fail_in_store()


def test_a_web_host_that_is_gone_does_not_count_for_a_store() -> None:
    breaker = CircuitBreaker()
    for number in range(500):
        with pytest.raises(HostUnreachable):
            fail(breaker, f"host{number % 11}")
    with pytest.raises(HostUnreachable), breaker.watch():
        raise HostUnreachable(ErrorCode.TIMEOUT, "x.png: 500", "host0", is_store=True)


def test_failures_of_a_few_hosts_do_not_end_the_scan() -> None:
    breaker = CircuitBreaker()
    for number in range(500):
        with pytest.raises(HostUnreachable):
            fail(breaker, f"host{number % 11}")


@pytest.mark.parametrize("answer", [None, RowFailure(ErrorCode.MISSING, "the server answers 404")])
def test_an_answer_in_between_means_that_the_network_is_up(answer: RowFailure | None) -> None:
    breaker = CircuitBreaker()
    for number in range(500):
        with pytest.raises(HostUnreachable):
            fail(breaker, f"host{number}")
        if number % 50 == 49:
            try:
                with breaker.watch():
                    if answer is not None:
                        raise answer
            except RowFailure:
                pass
