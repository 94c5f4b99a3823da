"""The body of a request, read within limits of size, memory and time."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request

from aigid.service.config import ServiceLimits
from aigid.service.problems import Problem, busy, too_large


class HeldBytes:
    """Counts the bytes of the bodies that are in memory, of all requests together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @contextmanager
    def holding(self) -> Iterator["_Share"]:
        """Give a request a share to count its bytes in, which is given back at the end."""
        share = _Share(self)
        try:
            yield share
        finally:
            self.held -= share.bytes

    def add(self, count: int) -> None:
        """Raise Problem (429) where `count` more bytes would be too many."""
        if self.held + count > self._most:
            raise busy("the requests in work fill the memory that is meant for them", 2)
        self.held += count


class _Share:
    def __init__(self, all_bytes: HeldBytes) -> None:
        self._all = all_bytes
        self.bytes = 0

    def add(self, count: int) -> None:
        self._all.add(count)
        self.bytes += count


async def read_body(request: Request, limits: ServiceLimits, held: _Share) -> bytes:
    """Return the body of a request.

    Raises Problem: 413 over the size, 408 over the time, 429 where too much is in memory, and
    ClientDisconnect where the client has gone.
    """
    most = limits.max_body_bytes
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _over(most)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "content-encoding",
            f"the content encoding {encoding[:40]!r} is not read",
            "Send the body as it is. Images are compressed already.",
        )
    body = bytearray()
    async for chunk in _chunks(request, limits):
        if len(body) + len(chunk) > most:
            raise _over(most)
        held.add(len(chunk))
        body += chunk
    return bytes(body)


async def _chunks(request: Request, limits: ServiceLimits) -> AsyncIterator[bytes]:
    end = time.monotonic() + limits.body_s
    while True:
        try:
            async with asyncio.timeout(min(limits.idle_s, end - time.monotonic())):
                message = await request.receive()
        except TimeoutError:
            raise Problem(
                HTTPStatus.REQUEST_TIMEOUT,
                "slow-body",
                f"the body did not come within {limits.body_s:g} s, or stopped for "
                f"{limits.idle_s:g} s",
                "Send smaller requests, or use a faster connection.",
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _over(most: int) -> Problem:
    return too_large(
        f"the body has more than {most} bytes",
        "Send fewer pairs in a request, or smaller images.",
    )
