"""What web servers are told, and how often they are asked: headers, waits, opt-outs, limits."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support.raw_server import Visit, raw_server
from support.web_server import Answer, WebServer, reset_client, web_server

from aigid.storage import HostHeader, WebSettings, http
from aigid.storage.host_slots import HostSlots
from aigid.storage.http import download
from aigid.storage.http_errors import RefusalReason, RefusedError, UnreachableError
from aigid.storage.response_headers import opt_out_of, retry_after_s

LIMIT = 1 << 20


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    reset_client(monkeypatch)
    with web_server() as server:
        yield server


def fetch(url: str, settings: WebSettings = WebSettings()) -> bytes:
    return download(url, LIMIT, allow_private=True, settings=settings)


def elsewhere(url: str) -> str:
    """The same server under another name."""
    return url.replace("localhost", "127.0.0.1")


def test_the_user_agent_and_the_headers_of_a_host_are_sent(site: WebServer) -> None:
    url = site.serve("/x.png", Answer(b"data"))
    assert fetch(url) == b"data"
    assert site.headers[-1]["User-Agent"] == "aigid"
    headers = (
        HostHeader("LOCALHOST", "Authorization", "Bearer token"),
        HostHeader(f"localhost:{site.port}", "Referer", "https://a.example/é"),
        HostHeader("localhost:1", "X-Other-Port", "no"),
        HostHeader("127.0.0.1", "X-Other-Host", "no"),
        HostHeader("host", "X-Part", "no"),
    )
    assert fetch(url, WebSettings(user_agent="me/1 (é)", headers=headers)) == b"data"
    sent = site.headers[-1]
    assert (sent["Authorization"], sent["X-Other-Port"]) == ("Bearer token", None)
    assert (sent["X-Other-Host"], sent["X-Part"]) == (None, None)
    assert sent["User-Agent"].encode("latin-1") == "me/1 (é)".encode("latin-1")
    assert sent["Referer"].encode("latin-1") == "https://a.example/é".encode("latin-1")


def test_a_host_may_have_a_user_agent_of_its_own(site: WebServer) -> None:
    url = site.serve("/x.png", Answer(b"data"))
    own = HostHeader("localhost", "User-Agent", "own")
    assert fetch(url, WebSettings(user_agent="all", headers=(own,))) == b"data"
    assert site.headers[-1].get_all("User-Agent") == ["own"]


def test_a_redirect_to_another_host_drops_the_headers(site: WebServer) -> None:
    target = elsewhere(site.serve("/x.png", Answer(b"data")))
    away = site.serve("/away", Answer(status=302, headers=(("Location", target),)))
    here = site.serve("/here", Answer(status=302, headers=(("Location", "/x.png"),)))
    back = site.serve("/back", Answer(status=302, headers=(("Location", f"{site.address}/x.png"),)))
    headers = (HostHeader("localhost", "Authorization", "SECRET"),)

    def sent(url: str) -> list[str | None]:
        site.headers.clear()
        assert fetch(url, WebSettings(headers=headers)) == b"data"
        return [message["Authorization"] for message in site.headers]

    assert sent(away) == ["SECRET", None]
    assert sent(here) == ["SECRET", "SECRET"]
    assert sent(elsewhere(back)) == [None, "SECRET"]


def test_a_user_and_password_in_a_url_are_not_sent_on(site: WebServer) -> None:
    url = site.serve("/x.png", Answer(b"data")).replace("//", "//me:SECRET@")
    assert fetch(url) == b"data"
    assert site.headers[-1]["Authorization"] is None
    assert "SECRET" not in str(site.headers[-1])


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("0", 0, 0),
        ("7", 7, 7),
        (" 7 ", 7, 7),
        ("9" * 400, 1e300, float("inf")),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_retry_after_has_seconds_or_a_date(value: str, least: float, most: float) -> None:
    seconds = retry_after_s(value)
    assert seconds is not None
    assert least <= seconds <= most


def test_retry_after_may_be_a_date_to_come() -> None:
    then = datetime.now(UTC) + timedelta(hours=1)
    for value in (
        format_datetime(then, usegmt=True),
        then.strftime("%a, %d %b %Y %H:%M:%S -0000"),
    ):
        seconds = retry_after_s(value)
        assert seconds is not None
        assert 3500 <= seconds <= 3600


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "1.5", "٣", "Wed, 99 Oct 2015", "1 2"])
def test_a_retry_after_without_a_time_says_nothing(value: str | None) -> None:
    assert retry_after_s(value) is None


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_is_asked_again_after_the_time_that_it_asks_for(
    status: int, site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(http.time, "sleep", waits.append)
    busy = Answer(b"busy", status, (("Retry-After", "3"),))
    assert fetch(site.serve("/x.png", busy, busy, Answer(b"data"))) == b"data"
    # The server's own thread pauses as well, for no time.
    assert [seconds for seconds in waits if seconds] == [3, 3]
    with pytest.raises(UnreachableError, match=f"^the server answers {status}$"):
        fetch(site.serve("/y.png", busy))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["3600", "9" * 400, "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_wait_beyond_the_deadline_ends_the_fetch_at_once(
    status: int, value: str, site: WebServer
) -> None:
    url = site.serve("/x.png", Answer(b"busy", status, (("Retry-After", value),)))
    with pytest.raises(UnreachableError, match=f"^the server answers {status}, and asks to wait"):
        fetch(url)
    assert len(site.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 502, 520, 524])
def test_other_temporary_answers_are_tried_again(status: int, site: WebServer) -> None:
    assert fetch(site.serve("/x.png", Answer(b"", status), Answer(b"data"))) == b"data"


OPT_OUTS = [
    (["noai"], "noai"),
    (["noimageai"], "noimageai"),
    (["NoAI"], "noai"),
    (["noindex, NOIMAGEAI , nofollow"], "noimageai"),
    (["noindex", "noai"], "noai"),
    (["aigid: noai"], "noai"),
    (["Aigid: noindex, noai"], "noai"),
    (["*: noai"], "noai"),
    (["mybot: noimageai"], "noimageai"),
    (["otherbot: noindex", "noai"], "noai"),
    (["noai, otherbot: noindex"], "noai"),
    (["otherbot: noindex, aigid: noai"], "noai"),
    (["max-image-preview: large, noai"], "noai"),
    (["unavailable_after: 25 Jun 2030 15:00:00 PST", "noai"], "noai"),
    (["noai,noimageai"], "noai"),
    ([], None),
    ([""], None),
    (["none"], None),
    (["noindex, nofollow"], None),
    (["noaid", "xnoai"], None),
    (["otherbot: noai"], None),
    (["otherbot: noindex, noai"], None),
    (["bot: noai"], None),
]


@pytest.mark.parametrize(("tags", "rule"), OPT_OUTS)
def test_the_rules_by_which_an_owner_opts_out(tags: list[str], rule: str | None) -> None:
    assert opt_out_of(tags, "MyBot/2.0 (+https://me.example)") == rule


@pytest.mark.parametrize(
    "headers",
    [
        (("X-Robots-Tag", "noai"),),
        (("x-robots-tag", "noindex"), ("X-ROBOTS-TAG", "aigid: NoImageAI")),
    ],
)
def test_an_image_whose_owner_opts_out_is_refused_if_that_is_asked_for(
    headers: tuple[tuple[str, str], ...], site: WebServer
) -> None:
    url = site.serve("/x.png", Answer(b"data", headers=headers))
    assert fetch(url) == b"data"
    with pytest.raises(RefusedError, match=r"^its owner opts out of use by AI \(X-Rob") as caught:
        fetch(url, WebSettings(respect_opt_out=True))
    assert caught.value.reason is RefusalReason.OPT_OUT
    # What is said of a redirect is not said of the image.
    to = site.serve("/to", Answer(status=302, headers=(("Location", "/y.png"), *headers)))
    site.serve("/y.png", Answer(b"other"))
    assert fetch(to, WebSettings(respect_opt_out=True)) == b"other"


class Crowd:
    """A server that answers only when `most` requests are there at the same time."""

    def __init__(self, most: int) -> None:
        self.lock, self.now, self.peak = threading.Lock(), 0, 0
        self.enough = threading.Barrier(most)

    def talk(self, visit: Visit) -> None:
        while visit.read_request():
            with self.lock:
                self.now += 1
                self.peak = max(self.peak, self.now)
            self.enough.wait(10)
            with self.lock:
                self.now -= 1
            visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata")


@pytest.mark.parametrize("most", [1, 3, 8])
def test_one_host_gets_so_many_requests_at_a_time(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset_client(monkeypatch)
    crowd, settings = Crowd(most), WebSettings(requests_per_host=most)
    with raw_server(crowd.talk) as port, ThreadPoolExecutor(16) as pool:
        url = f"http://127.0.0.1:{port}/x.png"
        found = pool.map(lambda _: fetch(url, settings), range(3 * most))
        assert list(found) == [b"data"] * (3 * most)
    assert crowd.peak == most


def test_a_redirect_counts_for_the_host_that_it_leads_to(site: WebServer) -> None:
    """Each thread holds one slot at a time, so that two redirects never wait for each other."""
    here = site.serve("/x.png", Answer(b"data"))
    there = elsewhere(here)
    to = [
        site.serve("/there", Answer(status=302, headers=(("Location", there),))),
        elsewhere(
            site.serve(
                "/here", Answer(status=302, headers=(("Location", f"{site.address}/x.png"),))
            )
        ),
    ]
    settings = WebSettings(requests_per_host=1)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda number: fetch(to[number % 2], settings), range(40))
        assert list(found) == [b"data"] * 40


def test_waiting_for_a_turn_is_not_a_part_of_the_deadline() -> None:
    slots = HostSlots(1)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with slots.hold("a"):
            entered.set()
            leave.wait(10)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(hold)
        entered.wait(10)
        with slots.hold("b") as waited_s:
            assert waited_s < 1

        def wait() -> float:
            with slots.hold("a") as waited_s:
                return waited_s

        second = pool.submit(wait)
        assert not second.done()
        leave.set()
        assert second.result(10) > 0
        first.result(10)
    assert not slots._used
