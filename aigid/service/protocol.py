"""HTTP connections that cannot be held open, or filled, for nothing."""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aigid.service.config import ServiceLimits
from aigid.service.problems import MEDIA_TYPE, Problem

# The head of a request: its line and its headers.
MOST_HEAD_BYTES = 64 << 10
# After an answer to a request whose body is still coming: time for the client to read it.
LINGER_S = 2.0


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with bounds on connections, and on what is not read.

    Uvicorn itself waits for the head of a request as long as the client likes, takes one of any
    length, and reads a body to its end after its answer.
    """

    limits = ServiceLimits()
    # Runs out where what is expected does not come: a head, or the rest of a body.
    _patience: asyncio.TimerHandle | None = None
    _expects_head = True
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Take a connection, if there are not too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            transport.abort()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, to the limit of a head."""
        super().data_received(data)
        if self._expects_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long")

    def on_headers_complete(self) -> None:
        """Begin a request, whose body has its own limits (`read_body`)."""
        self._expects_head = False
        self._wait(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a request."""
        super().on_message_complete()
        if self.cycle.response_complete:
            self._expect_head()

    def on_response_complete(self) -> None:
        """End an answer: the next head comes soon, or the connection ends."""
        super().on_response_complete()
        if self.transport.is_closing() or self.pipeline:
            return
        if self.cycle.more_body:
            self._wait(LINGER_S)
        else:
            self._expect_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1")

    def _expect_head(self) -> None:
        self._expects_head, self._head_bytes = True, 0
        self._wait(self.limits.header_s)

    def _wait(self, seconds: float | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = None
        if seconds is not None:
            self._patience = self.loop.call_later(seconds, self.transport.abort)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer what never becomes a request, and close the connection."""
        answer = Problem(status, "malformed", detail, "Send HTTP/1.1.").response("")
        head = (
            f"HTTP/1.1 {int(status)} {status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\n"
            f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + bytes(answer.body))
        self.transport.close()


def bounded_protocol(limits: ServiceLimits) -> type[BoundedProtocol]:
    """Return the protocol with these limits."""
    return type("LimitedProtocol", (BoundedProtocol,), {"limits": limits})
