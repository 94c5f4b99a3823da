"""Images fetched ahead: within a bound on memory, and never waiting for each other for ever."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace

import pytest
from support.web_server import Answer, WebServer, web_server

from aigid.fetch import CircuitBreaker, FetchAhead, FetchPolicy, ImageReference
from aigid.pixels import DecodeLimits
from aigid.records import ErrorCode, RowFailure
from aigid.storage import WebSettings

KIB = 1024


@pytest.fixture(scope="module")
def site() -> Iterator[WebServer]:
    with web_server() as site:
        yield site


def policy(requests_per_host: int = 8) -> FetchPolicy:
    web = replace(WebSettings(), requests_per_host=requests_per_host)
    limits = DecodeLimits(max_bytes=8 << 20)
    return FetchPolicy(None, allow_private_addresses=True, limits=limits, web=web)


def images(site: WebServer, sizes: list[int]) -> list[ImageReference]:
    """Images of so many bytes, at two names of the same server: two hosts."""
    found = []
    for number, size in enumerate(sizes):
        url = site.serve(f"/{number}.png", Answer(bytes([number % 256]) * size))
        host = "localhost" if number % 3 else "127.0.0.1"
        found.append(ImageReference(None, url.replace("localhost", host)))
    return found


@pytest.mark.parametrize("requests_per_host", [1, 2, 64])
@pytest.mark.parametrize("held_bytes", [1, 3 << 20, 256 << 20])
def test_all_images_come_whatever_the_room_and_the_limit_of_hosts(
    site: WebServer, requests_per_host: int, held_bytes: int
) -> None:
    sizes = [random.Random(number).choice([1, 60 * KIB, 3 << 20]) for number in range(90)]
    ahead = FetchAhead(policy(requests_per_host), CircuitBreaker(), held_bytes)
    started = [ahead.start(image) for image in images(site, sizes)]
    for number, (one, size) in enumerate(zip(started, sizes, strict=True)):
        assert ahead.take(one) == bytes([number % 256]) * size
    ahead.close()


def test_images_that_are_not_taken_have_at_most_the_room(site: WebServer) -> None:
    ahead = FetchAhead(policy(), CircuitBreaker(), 20 << 20)
    started = [ahead.start(image) for image in images(site, [1 << 20] * 40)]
    held, settled = -1, time.monotonic() + 1
    while time.monotonic() < settled:
        now = sum(one.future.done() for one in started)
        if now != held:
            held, settled = now, time.monotonic() + 1
    assert 5 <= held <= 20
    for one in started:
        assert len(ahead.take(one)) == 1 << 20
    ahead.close()


def test_an_error_is_the_one_of_its_image(site: WebServer) -> None:
    gone, large = f"{site.address}/gone.png", site.serve("/large.png", Answer(b"x" * (9 << 20)))
    ahead = FetchAhead(policy(), CircuitBreaker())
    started = [ahead.start(ImageReference(None, url)) for url in (gone, large)]
    codes = []
    for one in started:
        with pytest.raises(RowFailure) as raised:
            ahead.take(one)
        codes.append(raised.value.error.code)
    assert codes == [ErrorCode.MISSING, ErrorCode.TOO_LARGE]
    ahead.close()


def test_nothing_is_waited_for_after_closing(site: WebServer) -> None:
    url = site.serve("/slow.png", Answer(b"x" * 600, pause_s=0.05))
    ahead = FetchAhead(policy(), CircuitBreaker())
    one = ahead.start(ImageReference(None, url))
    while not one.future.running():
        time.sleep(0.01)
    ahead.close()
    with pytest.raises(CancelledError):
        ahead.take(one)
