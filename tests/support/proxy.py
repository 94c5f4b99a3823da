"""A proxy on loopback: it forwards http, and tunnels https, to servers on loopback alone."""

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from support.web_server import LoopbackServer

Address = tuple[str, int]


@dataclass
class Proxy:
    """The requests so far, as the proxy reads them, and their headers.

    `hosts` has the server for each host that the proxy knows. `refusal` is the status of all
    answers, if set.
    """

    address: str
    hosts: dict[str, Address] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    refusal: int | None = None


class _Server(LoopbackServer):
    proxy: Proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        address = self._address(parts.netloc)
        if address is None:
            return
        upstream = http.client.HTTPConnection(*address)
        path = parts._replace(scheme="", netloc="").geturl()
        upstream.request(self.command, path, headers=dict(self.headers))
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        upstream.close()

    do_HEAD = do_GET  # noqa: N815 - http.server calls it

    def do_CONNECT(self) -> None:
        address = self._address(self.path)
        if address is None:
            return
        with socket.create_connection(address) as upstream:
            self.send_response_only(200)
            self.end_headers()
            _pump(self.connection, upstream)
        self.close_connection = True

    def _address(self, place: str) -> Address | None:
        """Note the request; return where it goes, or refuse it."""
        proxy = self.server.proxy
        proxy.requests.append(f"{self.command} {self.path}")
        proxy.headers.append(self.headers)
        host = place.rpartition(":")[0] if ":" in place.rpartition("]")[2] else place
        address = proxy.hosts.get(host)
        status = proxy.refusal or (502 if address is None else None)
        if status is None:
            return address
        self.send_response_only(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def log_message(self, *arguments: object) -> None:
        pass


def _pump(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)


@contextmanager
def proxy_server() -> Iterator[Proxy]:
    """Run the proxy until the context ends."""
    server = _Server(_Handler)
    server.proxy = Proxy(f"127.0.0.1:{server.server_address[1]}")
    with server.running():
        yield server.proxy
