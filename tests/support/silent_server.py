"""A server on loopback that accepts connections and never answers."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Thread


@dataclass
class SilentServer:
    """The server's port, and its connections so far."""

    port: int
    connections: list[socket.socket] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def silent_server() -> Iterator[SilentServer]:
    """Accept connections until the context ends, which closes them all."""
    with ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        server = SilentServer(listener.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                server.connections.append(connection)

        thread = Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            # This wakes the thread; closing the listener alone would not.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in server.connections:
                connection.close()
