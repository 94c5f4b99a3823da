"""A web server on loopback. A test sets the answers of each path."""

import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from aigid.storage import connections, http, public_addresses


@dataclass(frozen=True)
class Answer:
    """The answer to a request.

    `cut` closes the connection in the middle of the body. `pause_s` waits before each byte.
    `has_length` False leaves out Content-Length. `ranges` honours the Range header.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    pause_s: float = 0
    has_length: bool = True
    ranges: bool = False


@dataclass
class WebServer:
    """The answers by path, and the requests that came in: paths, headers, and clients' ports."""

    address: str
    answers: dict[str, Callable[[], Answer]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)

    def serve(self, path: str, *answers: Answer) -> str:
        """Give these answers in turn, the last one from then on. Returns the URL of the path."""
        left = list(answers)
        self.answers[path] = lambda: left.pop(0) if len(left) > 1 else left[0]
        return f"{self.address}{path}"

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Otherwise each body would wait 40 ms for the client's delayed acknowledgement of the headers.
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        site = self.server.site
        site.requests.append(self.path)
        site.headers.append(self.headers)
        site.connections.add(self.client_address[1])
        answer = site.answers.get(self.path, lambda: Answer(b"not here", 404))()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if answer.ranges and wanted:
            answer = _part(answer, int(wanted[1]), int(wanted[2]) + 1)
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.has_length:
            self.send_header("Content-Length", str(len(answer.body)))
        else:
            self.close_connection = True
        self.end_headers()
        self._send_body(answer)

    def _send_body(self, answer: Answer) -> None:
        step = 1 if answer.pause_s else max(len(answer.body) // 2, 1)
        for start in range(0, len(answer.body), step):
            time.sleep(answer.pause_s)
            self.wfile.write(answer.body[start : start + step])
            if answer.cut:
                self.close_connection = True
                return

    def log_message(self, *arguments: object) -> None:
        pass


def _part(answer: Answer, start: int, stop: int) -> Answer:
    body = answer.body[start:stop]
    span = ("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(answer.body)}")
    return replace(answer, body=body, status=206, headers=(*answer.headers, span))


class LoopbackServer(ThreadingHTTPServer):
    """Answers many requests at a time on a free port of the loopback address.

    Errors of clients that disconnect are not printed.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, *arguments: object) -> None:
        pass

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve until the context ends."""
        with self:
            # The default checks four times a second whether to stop.
            thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield
            finally:
                self.shutdown()
                thread.join()


class _Server(LoopbackServer):
    site: WebServer


def reset_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have aigid's HTTP client drop its connections, and not pause between attempts."""
    monkeypatch.setattr(http, "_FIRST_PAUSE_S", 0)
    connections._connections.cache_clear()
    public_addresses.is_public_host.cache_clear()
    public_addresses.check_proxied_host.cache_clear()
    public_addresses._said.cache_clear()


def make_public(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have these addresses of loopback stand for public ones, and all others for private ones."""
    monkeypatch.setattr(public_addresses, "is_public", lambda address: address in addresses)


@contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """Run the server until the context ends."""
    server = _Server(_Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.site = WebServer(f"{'https' if tls else 'http'}://localhost:{server.server_address[1]}")
    with server.running():
        yield server.site
