"""Each fetch ends at its deadline, whatever part of the exchange a server drips."""

import socket
import ssl

import pytest
import trustme
from support.raw_server import Talk, Visit, raw_server
from support.web_server import reset_client

from aigid.storage import WebSettings, download
from aigid.storage.http_errors import UnreachableError

HEAD = b"HTTP/1.1 200 OK\r\n"
BODY = b"Content-Length: 4\r\n\r\ndata"
SETTINGS = WebSettings(deadline_s=0.4)
LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    reset_client(monkeypatch)


def talking(start: bytes, dripped: bytes) -> Talk:
    """Answer each request with `start`, and then with `dripped`, byte by byte and for ever."""

    def talk(visit: Visit) -> None:
        while visit.read_request():
            visit.send(start)
            visit.drip(dripped)

    return talk


def silent(visit: Visit) -> None:
    """Never answer, and never read: this is what a TLS handshake meets, too."""
    visit.drip(b"")


def drip_at_once(visit: Visit) -> None:
    visit.drip(b"\x16\x03\x03\x40\x00\x02")


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
DRIPS: dict[str, Talk] = {
    "the status line": talking(b"HTTP/1.1 2", b"0"),
    "the reason": talking(b"HTTP/1.1 200 ", b"O"),
    "a header": talking(HEAD + b"X-Long: ", b"x"),
    "headers": talking(HEAD, b"X-More: 1\r\n"),
    "100 Continue": talking(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers of 100 Continue": talking(b"HTTP/1.1 100 Continue\r\n", b"X: 1\r\n"),
    "103 Early Hints": talking(b"", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"),
    "headers of 102": talking(b"HTTP/1.1 102 Processing\r\n", b"X: 1\r\n"),
    "the body": talking(HEAD + b"Content-Length: 9999\r\n\r\n", b"x"),
    "a body without its length": talking(HEAD + b"Connection: close\r\n\r\n", b"x"),
    "the size of a chunk": talking(CHUNKED, b"0"),
    "the extension of a chunk": talking(CHUNKED + b"5;", b"x"),
    "a chunk": talking(CHUNKED + b"fff\r\n", b"x"),
    "chunks": talking(CHUNKED, b"1\r\nx\r\n"),
    "trailers": talking(CHUNKED + b"4\r\ndata\r\n0\r\n", b"X: 1\r\n"),
    "the body of a redirect": talking(
        b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 9999\r\n\r\n", b"x"
    ),
    "headers of a 503": talking(b"HTTP/1.1 503 Busy\r\n", b"X: 1\r\n"),
    # Of blocks that are stored and empty.
    "a gzipped body": talking(
        HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
        b"\x00\x00\x00\xff\xff",
    ),
    "nothing": silent,
}


@pytest.mark.parametrize("talk", DRIPS.values(), ids=DRIPS.keys())
def test_a_fetch_ends_at_its_deadline_whatever_a_server_drips(talk: Talk) -> None:
    with raw_server(talk) as port, pytest.raises(UnreachableError) as caught:
        download(f"http://127.0.0.1:{port}/x.png", LIMIT, allow_private=True, settings=SETTINGS)
    assert str(caught.value) == "not complete after 0.4 s"
    assert caught.value.host == "127.0.0.1"


def tls_context() -> tuple[trustme.CA, ssl.SSLContext]:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return authority, context


@pytest.mark.parametrize("talk", [silent, drip_at_once], ids=["silent", "dripping"])
def test_a_tls_handshake_ends_at_the_deadline(talk: Talk) -> None:
    with raw_server(talk) as port, pytest.raises(UnreachableError) as caught:
        download(f"https://127.0.0.1:{port}/x.png", LIMIT, allow_private=True, settings=SETTINGS)
    assert str(caught.value) == "not complete after 0.4 s"


@pytest.mark.parametrize("part", ["headers", "the body", "chunks", "trailers", "100 Continue"])
def test_over_tls_a_fetch_ends_at_its_deadline_as_well(
    part: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority, context = tls_context()
    bundle = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with raw_server(DRIPS[part], context) as port, pytest.raises(UnreachableError) as caught:
        download(f"https://127.0.0.1:{port}/x.png", LIMIT, allow_private=True, settings=SETTINGS)
    assert str(caught.value) == "not complete after 0.4 s"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "talk",
    [
        silent,
        talking(b"HTTP/1.1 2", b"0"),
        talking(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"),
        talking(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["nothing", "the status line", "headers", "100 Continue"],
)
def test_a_proxy_that_drips_does_not_hold_a_fetch(
    talk: Talk, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with raw_server(talk) as port:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(UnreachableError) as caught:
            download(f"{scheme}://host.example/x.png", LIMIT, allow_private=True, settings=SETTINGS)
    assert str(caught.value) == "not complete after 0.4 s"


def test_a_connection_that_is_used_again_has_a_new_deadline() -> None:
    visits = []

    def talk(visit: Visit) -> None:
        visits.append(visit)
        while visit.read_request():
            visit.send(HEAD + BODY)

    with raw_server(talk) as port:
        url = f"http://127.0.0.1:{port}/x.png"
        first = WebSettings(deadline_s=0.5)
        assert download(url, LIMIT, allow_private=True, settings=first) == b"data"
        wait_until_over(0.6)
        assert download(url, LIMIT, allow_private=True) == b"data"
    assert len(visits) == 1


def wait_until_over(seconds: float) -> None:
    """Wait on a socket that never gets anything."""
    one, other = socket.socketpair()
    with one, other, pytest.raises(TimeoutError):
        one.settimeout(seconds)
        one.recv(1)


@pytest.mark.parametrize(
    "interim", [b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </x>"]
)
def test_interim_answers_are_passed_over(interim: bytes) -> None:
    def talk(visit: Visit) -> None:
        while visit.read_request():
            visit.send(b"HTTP/1.1 " + interim + b"\r\n\r\n" + HEAD + BODY)

    with raw_server(talk) as port:
        url = f"http://127.0.0.1:{port}/x.png"
        assert download(url, LIMIT, allow_private=True) == b"data"


def test_redirects_share_one_deadline() -> None:
    def talk(visit: Visit) -> None:
        while visit.read_request():
            visit.drip_once(b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n")

    with raw_server(talk) as port, pytest.raises(UnreachableError) as caught:
        download(f"http://127.0.0.1:{port}/x.png", LIMIT, allow_private=True, settings=SETTINGS)
    assert str(caught.value) == "not complete after 0.4 s"
