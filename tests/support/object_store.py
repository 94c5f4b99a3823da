"""A real S3 server on loopback (moto's), behind a proxy that can fail as networks and stores do."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock

from pyarrow import fs

from support.web_server import LoopbackServer

BUCKET = "data"
HOP_BY_HOP = ("transfer-encoding", "connection", "expect")
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "3",
}


@dataclass(frozen=True)
class Request:
    """A client's request. `connection` is the same for the requests of one connection."""

    method: str
    path: str
    connection: int
    range: str | None = None


@dataclass(frozen=True)
class Fault:
    """The fault of a request.

    With `status`, the answer is an error with that status and that S3 code. Otherwise the real
    answer is cut off after `cut_after` bytes, and paused for `pause_s` in the middle.
    """

    status: int | None = None
    code: str = "InternalError"
    cut_after: int | None = None
    pause_s: float = 0

    @property
    def body(self) -> bytes:
        """The body of S3's error."""
        error = f"<Error><Code>{self.code}</Code><Message>Told to fail.</Message></Error>"
        return f"<?xml version='1.0'?>{error}".encode()


Faults = Callable[[Request], Fault | None]


@dataclass
class ObjectStore:
    """The server behind its proxy: the requests so far, and the fault of each next one.

    `files` reaches the server itself, past the proxy.
    """

    address: str
    files: fs.S3FileSystem
    faults: Faults = lambda request: None
    requests: list[Request] = field(default_factory=list)

    def uri(self, key: str) -> str:
        """Return the URI of an object, as a user of this store would write it."""
        return f"s3://{BUCKET}/{key}?endpoint_override={self.address}&scheme=http"

    def put(self, key: str, data: bytes) -> None:
        """Write an object, past the proxy."""
        with self.files.open_output_stream(f"{BUCKET}/{key}") as stream:
            stream.write(data)

    def put_folder(self, folder: Path, key: str) -> None:
        """Write each file directly in a folder as an object, past the proxy."""
        for path in sorted(folder.iterdir()):
            self.put(f"{key}/{path.name}", path.read_bytes())

    def contents(self, key: str) -> dict[str, bytes]:
        """Return the objects below a key, by name, past the proxy."""
        found = self.files.get_file_info(
            fs.FileSelector(f"{BUCKET}/{key}", recursive=True, allow_not_found=True)
        )
        files = [info for info in found if info.type == fs.FileType.File]
        return {info.path.removeprefix(f"{BUCKET}/{key}/"): self._read(info.path) for info in files}

    def _read(self, path: str) -> bytes:
        with self.files.open_input_stream(path) as stream:
            return bytes(stream.read())


def first(count: int, fault: Fault, *, method: str, key: str = "") -> Faults:
    """Let the first `count` requests with this method, and `key` in their path, fail."""
    left, lock = [count], Lock()

    def faults(request: Request) -> Fault | None:
        if request.method != method or key not in request.path:
            return None
        with lock:
            left[0] -= 1
            return fault if left[0] >= 0 else None

    return faults


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run the server, with an empty bucket, until the context ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | CREDENTIALS
    )
    try:
        _await_port(server, port)
        keys = {"access_key": "testing", "secret_key": "testing", "region": "us-east-1"}
        files = fs.S3FileSystem(
            **keys,
            endpoint_override=f"127.0.0.1:{port}",
            scheme="http",
            allow_bucket_creation=True,
            allow_delayed_open=True,
        )
        files.create_dir(BUCKET)
        proxy = _Proxy(port, files)
        with proxy.running():
            yield proxy.store
    finally:
        server.kill()
        server.wait()


def _await_port(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(600):
        assert server.poll() is None, "the S3 server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the S3 server does not answer")


class _Handler(BaseHTTPRequestHandler):
    """Forwards requests and their answers, except for the faults."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Proxy"

    def handle_any(self) -> None:
        body = self._body()
        request = Request(
            self.command, self.path, self.client_address[1], self.headers.get("Range")
        )
        self.server.store.requests.append(request)
        fault = self.server.store.faults(request) or Fault()
        if fault.status is not None:
            self._answer(fault.status, [("Content-Type", "application/xml")], fault.body, Fault())
            return
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP
        }
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port)
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        self._answer(answer.status, answer.getheaders(), answer.read(), fault)
        upstream.close()

    # The names that http.server calls.
    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, fault: Fault
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            sent = body[: fault.cut_after]
            self.wfile.write(sent[: len(sent) // 2])
            time.sleep(fault.pause_s)
            self.wfile.write(sent[len(sent) // 2 :])
        if fault.cut_after is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


class _Proxy(LoopbackServer):
    def __init__(self, upstream_port: int, files: fs.S3FileSystem) -> None:
        super().__init__(_Handler)
        self.upstream_port = upstream_port
        self.store = ObjectStore(f"127.0.0.1:{self.server_address[1]}", files)
