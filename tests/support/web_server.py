"""A web server on loopback for images: what it answers is said path by path."""

import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True)
class Answer:
    """What a path is answered with; `cut` closes the connection in the middle of the body, `pause_s` waits before each byte."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    pause_s: float = 0
    says_length: bool = True
    ranges: bool = False


@dataclass
class WebServer:
    """`answers` has a function for each path; `asked` and `connections` are what came in."""

    address: str
    answers: dict[str, Callable[[], Answer]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)

    def says(self, path: str, *answers: Answer) -> str:
        """Answer one after the other, the last one always; gives the URL."""
        left = list(answers)
        self.answers[path] = lambda: left.pop(0) if len(left) > 1 else left[0]
        return f"{self.address}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        site = self.server.site
        site.asked.append(self.path)
        site.connections.add(self.client_address[1])
        answer = site.answers.get(self.path, lambda: Answer(b"not here", 404))()
        if answer.ranges and (
            asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        ):
            answer = self._part(answer, int(asked[1]), int(asked[2]) + 1)
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.says_length:
            self.send_header("Content-Length", str(len(answer.body)))
        else:
            self.close_connection = True
        self.end_headers()
        step = 1 if answer.pause_s else max(len(answer.body) // 2, 1)
        for start in range(0, len(answer.body), step):
            time.sleep(answer.pause_s)
            self.wfile.write(answer.body[start : start + step])
            if answer.cut:
                self.close_connection = True
                return

    def _part(self, answer: Answer, start: int, stop: int) -> Answer:
        part = answer.body[start:stop]
        span = f"bytes {start}-{start + len(part) - 1}/{len(answer.body)}"
        return replace(
            answer, body=part, status=206, headers=(*answer.headers, ("Content-Range", span))
        )

    def log_message(self, *arguments: object) -> None:
        pass


class LoopbackServer(ThreadingHTTPServer):
    """Answers many at a time on a free port of this machine, and is silent about clients that leave."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, *arguments: object) -> None:
        pass

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve, until the context ends."""
        with self:
            thread = Thread(target=self.serve_forever)
            thread.start()
            try:
                yield
            finally:
                self.shutdown()
                thread.join()


class _Server(LoopbackServer):
    site: WebServer


@contextmanager
def web_server(tls: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """The server, until the context ends."""
    server = _Server(_Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.site = WebServer(f"{'https' if tls else 'http'}://localhost:{server.server_address[1]}")
    with server.running():
        yield server.site
