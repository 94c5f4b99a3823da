"""Images over http and https: what servers answer, what networks do, and addresses that are none of our business."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from support.web_server import Answer, WebServer, web_server

from aigid.records import ErrorCode, RowError, RowFailure
from aigid.storage import http as module
from aigid.storage.http import Unreachable, fetch_web, is_public

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def running() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def site(running: WebServer, monkeypatch: pytest.MonkeyPatch) -> WebServer:
    """A server that was asked nothing yet, and clients that do not pause before they try again."""
    monkeypatch.setattr(module, "_PAUSE_S", 0)
    module._pool.cache_clear()
    for of_earlier in (running.asked, running.connections, running.answers):
        of_earlier.clear()
    return running


def refusal(url: str, limit: int = LIMIT, *, allow_private: bool = True) -> RowError:
    with pytest.raises(RowFailure) as caught:
        fetch_web(url, limit, allow_private=allow_private)
    return caught.value.error


def test_the_body_is_given_as_it_is(site: WebServer) -> None:
    url = site.says("/x.png?size=1", Answer(b"data" * 1000))
    assert fetch_web(url, LIMIT, allow_private=True) == b"data" * 1000
    assert site.asked == ["/x.png?size=1"]


def test_a_connection_is_used_again_by_all_threads(site: WebServer) -> None:
    url = site.says("/x.png", Answer(b"data"))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: fetch_web(url, LIMIT, allow_private=True), range(200))) == {
            b"data"
        }
    assert len(site.connections) <= 4


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "missing"),
        (410, "missing"),
        (400, "missing"),
        (204, "missing"),
        (401, "forbidden"),
        (403, "forbidden"),
        (451, "forbidden"),
    ],
)
def test_what_a_server_refuses_is_an_error_at_once(site: WebServer, status: int, code: str) -> None:
    url = site.says("/x.png", Answer(b"", status))
    assert refusal(url) == RowError(ErrorCode(code), f"the server answers {status}")
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Answer(b"", 500),
        Answer(b"busy", 503, (("Retry-After", "3600"),)),
        Answer(b"", 429),
        Answer(b"data", cut=True),
    ],
    ids=["500", "503", "429", "cut"],
)
def test_what_fails_now_and_then_is_asked_again(site: WebServer, fault: Answer) -> None:
    url = site.says("/x.png", fault, fault, Answer(b"data"))
    assert fetch_web(url, LIMIT, allow_private=True) == b"data"
    url = site.says("/y.png", fault)
    assert refusal(url).code == ErrorCode.TIMEOUT
    assert len(site.asked) == 6


def test_a_body_that_is_too_large_is_not_read_whether_or_not_it_says_so(site: WebServer) -> None:
    url = site.says("/x.png", Answer(b"x" * 101))
    assert refusal(url, 100) == RowError(ErrorCode.TOO_LARGE, "101 bytes; the limit is 100")
    url = site.says("/x.png", Answer(b"x" * 101, says_length=False))
    assert refusal(url, 100) == RowError(
        ErrorCode.TOO_LARGE, "more than 100 bytes, which is the limit"
    )
    assert fetch_web(url, 101, allow_private=True) == b"x" * 101


def test_a_server_that_drips_is_left(site: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOTAL_S", 0.3)
    url = site.says("/x.png", Answer(b"x" * 1000, pause_s=0.05))
    error = refusal(url)
    assert error.code == ErrorCode.TIMEOUT
    assert error.detail.endswith("bytes in 0.3 s, and not all")


def test_a_server_that_is_silent_is_left(site: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE_S", 0.1)
    url = site.says("/x.png", Answer(b"x", pause_s=2))
    assert refusal(url) == RowError(ErrorCode.TIMEOUT, "no answer in time")


def test_redirects_are_followed_but_not_for_ever_and_not_to_other_schemes(site: WebServer) -> None:
    there = site.says("/x.png", Answer(b"data"))
    assert (
        fetch_web(
            site.says("/to", Answer(status=302, headers=(("Location", there),))),
            LIMIT,
            allow_private=True,
        )
        == b"data"
    )
    assert refusal(
        site.says("/round", Answer(status=302, headers=(("Location", "/round"),)))
    ) == RowError(ErrorCode.MISSING, "too many redirects")
    assert (
        refusal(
            site.says("/file", Answer(status=302, headers=(("Location", "file:///etc/passwd"),)))
        ).code
        == ErrorCode.MISSING
    )


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
def test_what_is_no_url_is_missing(site: WebServer, url: str) -> None:
    for allow_private in (True, False):
        assert refusal(url, allow_private=allow_private).code == ErrorCode.MISSING


def test_a_host_that_is_not_there_is_told_from_one_that_does_not_answer(site: WebServer) -> None:
    for allow_private in (True, False):
        with pytest.raises(Unreachable) as caught:
            fetch_web("http://no-such-host.invalid/x.png", LIMIT, allow_private=allow_private)
        assert (caught.value.error.code, caught.value.host) == (
            ErrorCode.MISSING,
            "no-such-host.invalid",
        )
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = refusal(f"http://127.0.0.1:{unused.getsockname()[1]}/x.png")
    assert error == RowError(ErrorCode.TIMEOUT, "no connection")


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433", "127.1"],
)
def test_private_addresses_are_forbidden_unless_allowed(site: WebServer, host: str) -> None:
    port = site.address.rpartition(":")[2]
    site.says("/x.png", Answer(b"secret"))
    error = refusal(f"http://{host}:{port}/x.png", allow_private=False)
    assert error.code == ErrorCode.FORBIDDEN
    assert "is not on the public network" in error.detail
    assert error.detail.endswith("--allow-private-addresses allows it")
    assert site.asked == []


def test_a_redirect_to_a_private_address_is_forbidden(
    site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first hop stands for a public server.
    monkeypatch.setattr(module, "is_public", lambda address: address in ("127.0.0.1", "::1"))
    port = site.address.rpartition(":")[2]
    url = site.says(
        "/to", Answer(status=302, headers=(("Location", f"http://127.0.0.2:{port}/x.png"),))
    )
    site.says("/x.png", Answer(b"secret"))
    error = refusal(url.replace("localhost", "127.0.0.1"), allow_private=False)
    assert error.code == ErrorCode.FORBIDDEN
    assert site.asked == ["/to"]


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    site: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name server that answers with a public address first, and with a private one when it is asked again.
    monkeypatch.setattr(module, "is_public", lambda address: address == "127.0.0.1")
    port = int(site.address.rpartition(":")[2])
    answers = iter(["127.0.0.1", "127.0.0.2"])
    real = socket.getaddrinfo
    asked = []

    def resolve(host: str, *rest: object, **more: object) -> object:
        if host == "rebinding.example":
            asked.append(host)
            return real(next(answers), port, type=socket.SOCK_STREAM)
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    site.says("/x.png", Answer(b"data"))
    assert (
        fetch_web(f"http://rebinding.example:{port}/x.png", LIMIT, allow_private=False) == b"data"
    )
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a9fe:a9fe::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) == public


def test_certificates_are_checked(
    site: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with web_server(context) as server:
        url = server.says("/x.png", Answer(b"data"))
        assert refusal(url) == RowError(
            ErrorCode.FORBIDDEN, "the server's certificate is not trusted, or it speaks no TLS"
        )
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        module._pool.cache_clear()
        assert fetch_web(url, LIMIT, allow_private=True) == b"data"
        monkeypatch.setattr(module, "is_public", lambda address: True)
        assert fetch_web(url, LIMIT, allow_private=False) == b"data"
        assert (
            refusal(url.replace("localhost", "127.0.0.1"), allow_private=False).code
            == ErrorCode.FORBIDDEN
        )
    assert (
        refusal(site.says("/x.png", Answer(b"data")).replace("http://", "https://")).code
        == ErrorCode.FORBIDDEN
    )
