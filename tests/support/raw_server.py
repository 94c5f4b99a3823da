"""A server on loopback that sends what a test writes byte by byte, proper HTTP or not."""

import socket
import socketserver
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

Talk = Callable[["Visit"], None]
"""Answers the requests of one connection."""


class Visit:
    """One connection of a client."""

    def __init__(self, connection: socket.socket, stopped: Event) -> None:
        self.connection, self._stopped = connection, stopped

    def read_request(self) -> bytes:
        """Return the next request's head; nothing where the client has closed the connection."""
        head = b""
        while b"\r\n\r\n" not in head:
            part = self.connection.recv(4096)
            if not part:
                return b""
            head += part
        return head

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def drip(self, data: bytes, pause_s: float = 0.02) -> None:
        """Send these bytes again and again, with a pause before each, while the client listens."""
        while not self._stopped.is_set():
            self.drip_once(data, pause_s)
            if not data:
                self._stopped.wait()

    def drip_once(self, data: bytes, pause_s: float = 0.02) -> None:
        """Send these bytes once, with a pause before each."""
        for byte in data:
            if self._stopped.wait(pause_s):
                return
            self.connection.sendall(bytes([byte]))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *arguments: object) -> None:
        pass


@contextmanager
def raw_server(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run the server until the context ends; yields its port."""
    stopped = Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                if tls is None:
                    talk(Visit(self.request, stopped))
                    return
                with tls.wrap_socket(self.request, server_side=True) as connection:
                    talk(Visit(connection, stopped))

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            stopped.set()
            server.shutdown()
            thread.join()
