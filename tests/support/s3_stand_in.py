"""A server on loopback that answers as S3 does, with faults that a test sets for single keys."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from support.web_server import LoopbackServer

BUCKET = "data"
LISTING = "a listing"
"""The key by which the listings of the bucket fail."""


@dataclass(frozen=True)
class Refusal:
    """An error of S3. `methods` are those that it is given to; HEAD gets it without a body."""

    status: int
    code: str = "InternalError"
    message: str = "Told to fail."
    methods: tuple[str, ...] = ("HEAD", "GET")


@dataclass(frozen=True)
class Drip:
    """An answer to GET that sends a byte from time to time, until the fault is taken away."""


@dataclass(frozen=True)
class Cut:
    """An answer to GET that ends after so many bytes, with a length that says `length`."""

    after: int
    length: int | None = None


Fault = Refusal | Drip | Cut


@dataclass
class S3StandIn:
    """The objects by key, the faults by key, and the requests so far."""

    address: str
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    on_request: Callable[[str, str], None] = lambda method, key: None

    def uri(self, key: str = "") -> str:
        return f"s3://{BUCKET}/{key}?endpoint_override={self.address}&scheme=http"


class _Server(LoopbackServer):
    store: S3StandIn


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        store, parts = self.server.store, urlsplit(self.path)
        bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
        store.requests.append(f"{self.command} {bucket}/{key}")
        if "list-type" in parts.query:
            key = LISTING
        store.on_request(self.command, key)
        fault = store.faults.get(key)
        if isinstance(fault, Refusal) and self.command in fault.methods:
            self._refuse(fault)
        elif key == LISTING:
            (prefix,) = parse_qs(parts.query).get("prefix", [""])
            found = f"<KeyCount>1</KeyCount><Contents><Key>{prefix}x</Key><Size>1</Size></Contents>"
            self._send(200, f"<ListBucketResult>{found}</ListBucketResult>".encode())
        elif bucket != BUCKET:
            self._refuse(Refusal(404, "NoSuchBucket"))
        elif key not in store.objects:
            self._refuse(Refusal(404, "NoSuchKey"))
        else:
            self._send_object(key, fault)

    do_HEAD = do_GET  # noqa: N815 - http.server calls it

    def _send_object(self, key: str, fault: Fault | None) -> None:
        data = self.server.store.objects[key]
        if self.command == "HEAD":
            self._send(200, data)
            return
        first, _, last = self.headers.get("Range", f"bytes=0-{len(data) - 1}")[6:].partition("-")
        part = data[int(first) : int(last) + 1]
        span = ("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        if isinstance(fault, Drip):
            self._head(206, len(data), span)
            while self.server.store.faults.get(key) is fault:
                self.wfile.write(b"x")
                time.sleep(0.05)
            self.close_connection = True
        elif isinstance(fault, Cut):
            length = len(part) if fault.length is None else min(fault.length, len(part))
            self._head(206, length, span)
            self.wfile.write(part[: fault.after])
            self.close_connection = fault.length is None
        else:
            self._head(206, len(part), span)
            self.wfile.write(part)

    def _refuse(self, fault: Refusal) -> None:
        error = f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message></Error>"
        self._send(fault.status, f"<?xml version='1.0'?>{error}".encode())

    def _send(self, status: int, body: bytes) -> None:
        self._head(status, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, length: int, *headers: tuple[str, str]) -> None:
        self.send_response_only(status)
        for name, value in (
            *headers,
            ("Content-Length", str(length)),
            ("Content-Type", "application/xml"),
            ("ETag", '"x"'),
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def s3_stand_in() -> Iterator[S3StandIn]:
    """Run the server until the context ends."""
    server = _Server(_Handler)
    server.store = S3StandIn(f"127.0.0.1:{server.server_address[1]}")
    with server.running():
        try:
            yield server.store
        finally:
            server.store.faults.clear()
