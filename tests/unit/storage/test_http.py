"""The HTTP client: the answers of servers, failing networks, and its own errors."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from support.web_server import Answer, WebServer, reset_client, web_server

from aigid.storage import connections
from aigid.storage.http import download, download_range
from aigid.storage.http_errors import (
    HttpError,
    NoRangesError,
    NotFoundError,
    RefusalReason,
    RefusedError,
    TooLargeError,
    UnknownHostError,
    UnreachableError,
)
from aigid.storage.web_settings import WebSettings

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def running() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def site(running: WebServer, monkeypatch: pytest.MonkeyPatch) -> WebServer:
    """A server with no answers and no requests yet."""
    reset_client(monkeypatch)
    for record in (running.requests, running.connections, running.answers):
        record.clear()
    return running


def downloaded(url: str, limit: int = LIMIT) -> bytes:
    return download(url, limit, allow_private=True)


def failure(url: str, limit: int = LIMIT) -> HttpError:
    with pytest.raises(HttpError) as caught:
        downloaded(url, limit)
    return caught.value


def test_the_body_is_returned_unchanged(site: WebServer) -> None:
    url = site.serve("/x.png?size=1", Answer(b"data" * 1000))
    assert downloaded(url) == b"data" * 1000
    assert site.requests == ["/x.png?size=1"]


def test_all_threads_share_connections(site: WebServer) -> None:
    url = site.serve("/x.png", Answer(b"data"))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: downloaded(url), range(200))) == {b"data"}
    assert len(site.connections) <= 4


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (410, NotFoundError),
        (400, NotFoundError),
        (204, NotFoundError),
        (401, RefusedError),
        (403, RefusedError),
        (451, RefusedError),
    ],
)
def test_a_status_that_another_attempt_would_not_change_raises_at_once(
    site: WebServer, status: int, kind: type[HttpError]
) -> None:
    error = failure(site.serve("/x.png", Answer(b"", status)))
    assert type(error) is kind
    assert str(error) == f"the server answers {status}"
    assert getattr(error, "reason", None) == (
        RefusalReason.STATUS if kind is RefusedError else None
    )
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Answer(b"", 500),
        Answer(b"busy", 503, (("Retry-After", "0"),)),
        Answer(b"", 429),
        Answer(b"data", cut=True),
    ],
    ids=["500", "503", "429", "cut"],
)
def test_a_temporary_failure_is_tried_three_times(site: WebServer, fault: Answer) -> None:
    url = site.serve("/x.png", fault, fault, Answer(b"data"))
    assert downloaded(url) == b"data"
    error = failure(site.serve("/y.png", fault))
    assert type(error) is UnreachableError
    assert error.host == "localhost"
    assert len(site.requests) == 6


def test_a_body_over_the_limit_is_not_read_with_or_without_its_length(site: WebServer) -> None:
    url = site.serve("/x.png", Answer(b"x" * 101))
    with pytest.raises(TooLargeError, match=r"^101 bytes; the limit is 100$"):
        downloaded(url, 100)
    url = site.serve("/x.png", Answer(b"x" * 101, has_length=False))
    with pytest.raises(TooLargeError, match=r"^larger than the limit of 100 bytes$"):
        downloaded(url, 100)
    assert downloaded(url, 101) == b"x" * 101


def test_a_server_that_sends_single_bytes_is_given_up_at_the_deadline(
    site: WebServer,
) -> None:
    url = site.serve("/x.png", Answer(b"x" * 1000, pause_s=0.05))
    with pytest.raises(UnreachableError, match=r"^not complete after 0\.3 s$"):
        download(url, LIMIT, allow_private=True, settings=WebSettings(deadline_s=0.3))
    assert len(site.requests) == 1


def test_a_silent_server_is_given_up_at_the_read_timeout(
    site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_READ_TIMEOUT_S", 0.1)
    url = site.serve("/x.png", Answer(b"x", pause_s=2))
    with pytest.raises(UnreachableError, match=r"^no answer in time$"):
        downloaded(url)
    assert len(site.requests) == 3


def redirect(site: WebServer, path: str, target: str) -> str:
    return site.serve(path, Answer(status=302, headers=(("Location", target),)))


def test_redirects_are_followed_within_a_limit_and_not_to_other_schemes(site: WebServer) -> None:
    target = site.serve("/x.png", Answer(b"data"))
    assert downloaded(redirect(site, "/to", target)) == b"data"
    with pytest.raises(NotFoundError, match=r"^too many redirects$"):
        downloaded(redirect(site, "/round", "/round"))
    with pytest.raises(NotFoundError, match=r"^not a URL that can be fetched$"):
        downloaded(redirect(site, "/file", "file:///etc/passwd"))


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_redirect_may_have_letters_that_are_not_escaped(site: WebServer, encoding: str) -> None:
    site.serve("/caf%C3%A9.png", Answer(b"data"))
    target = "/café.png".encode(encoding).decode("latin-1")
    assert downloaded(redirect(site, "/to", target)) == b"data"


@pytest.mark.parametrize("allow_private", [True, False])
@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///x.png",
        "http://[not-an-address/x.png",
        "http://a b/x.png",
        "http://host:99999/x",
        "http://.../x",
    ],
)
def test_a_malformed_url_is_not_found(url: str, allow_private: bool) -> None:
    with pytest.raises((NotFoundError, UnknownHostError)):
        download(url, LIMIT, allow_private=allow_private)


@pytest.mark.parametrize("allow_private", [True, False])
def test_an_unknown_host_is_tried_once_and_named(
    allow_private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups = []

    def resolve(host: str, *rest: object, **more: object) -> object:
        lookups.append(host)
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(UnknownHostError, match=r"^no such host$") as caught:
        download("http://no-such-host.invalid/x.png", LIMIT, allow_private=allow_private)
    assert caught.value.host == "no-such-host.invalid"
    assert lookups == ["no-such-host.invalid"]


def test_a_port_without_a_server_is_unreachable(site: WebServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{unused.getsockname()[1]}/x.png")
    assert type(error) is UnreachableError
    assert (str(error), error.host) == ("no connection", "127.0.0.1")


def test_certificates_are_checked(
    site: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    untrusted = r"^the server's certificate is not trusted, or the server does not speak TLS$"
    with web_server(context) as server:
        url = server.serve("/x.png", Answer(b"data"))
        with pytest.raises(RefusedError, match=untrusted) as caught:
            downloaded(url)
        assert caught.value.reason is RefusalReason.TLS
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        connections._connections.cache_clear()
        assert downloaded(url) == b"data"
        with pytest.raises(RefusedError, match=untrusted):
            downloaded(url.replace("localhost", "127.0.0.1"))
    plain = site.serve("/x.png", Answer(b"data")).replace("http://", "https://")
    with pytest.raises(RefusedError, match=untrusted):
        downloaded(plain)


def test_a_range_comes_with_the_size_and_time_of_the_file(site: WebServer) -> None:
    url = site.serve("/x.bin", Answer(b"0123456789", ranges=True))
    found = download_range(url, 3, 6)
    assert (found.data, found.size, found.modified) == (b"345", 10, None)
    time = (("Last-Modified", "Wed, 25 Nov 2026 10:00:00 GMT"),)
    site.serve("/x.bin", Answer(b"0123456789", headers=time, ranges=True))
    assert download_range(url, 8, 20).data == b"89"
    assert download_range(url, 0, 1).modified == time[0][1]


@pytest.mark.parametrize(
    "answer",
    [Answer(b"whole"), Answer(b"x", 206), Answer(b"x", 206, (("Content-Range", "bytes 5-5/10"),))],
    ids=["whole file", "no range named", "another range"],
)
def test_a_server_without_ranges_raises_its_own_error(site: WebServer, answer: Answer) -> None:
    with pytest.raises(NoRangesError, match="the server does not send parts of files"):
        download_range(site.serve("/x.bin", answer), 0, 1)
    assert len(site.requests) == 1
