"""Requests to several Triton servers: to the least loaded first, and elsewhere after a failure."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from aigid.errors import ContractError, ServerError
from aigid.scorers.triton_client import InferResult, TritonClient, connect
from aigid.scorers.triton_config import TritonConfig

# Attempts at one request before scoring ends: five failures in a row are no accident.
ATTEMPTS = 5

_HEALTH_EVERY_S, _HEALTH_TIMEOUT_S = 5.0, 10.0
# One missed health check may only mean that all cores of the server are busy.
_MISSES_TO_BE_LOST = 2
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.25, 5.0

# The request itself is wrong: another server would give the same answer.
_WRONG_REQUEST = {
    f"StatusCode.{name}"
    for name in ("INVALID_ARGUMENT", "UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED")
}

Check = Callable[[TritonClient], Awaitable[None]]
"""Raises ContractError unless a client's server has the right model."""


@dataclass(eq=False)
class _Server:
    """A server: its connection, the requests it has, and its health.

    `doubted` asks its watch to check it at once; `lost` is set while it does not answer.
    """

    address: str
    client: TritonClient
    load: int = 0
    ready: bool = False
    misses: int = 0
    reason: str = "not checked yet"
    doubted: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class TritonPool:
    """Sends requests for one model to a group of servers. Runs on one event loop."""

    def __init__(
        self, config: TritonConfig, model: str, check: Check, on_message: Callable[[str], None]
    ) -> None:
        """Connect to nothing yet; `on_message` gets a line when a server is lost or back."""
        self._config, self._model, self._check = config, model, check
        self._on_message = on_message
        self._servers = [
            _Server(address, connect(address, config.tls)) for address in config.addresses
        ]
        self._changed = asyncio.Condition()
        self._watches: list[asyncio.Task[None]] = []
        self._failure: ServerError | None = None

    async def open(self) -> None:
        """Check all servers and wait until one answers.

        Raises ContractError if a server has another model, and ServerError if none answers in time.
        """
        reasons = await asyncio.gather(*(self._examine(server) for server in self._servers))
        for server, reason in zip(self._servers, reasons, strict=True):
            await self._settle(server, reason, misses_to_be_lost=1)
        self._watches = [asyncio.create_task(self._watch(server)) for server in self._servers]
        self._watches.append(asyncio.create_task(self._lose_patience()))
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._failure or any(server.ready for server in self._servers)
            )
        if self._failure:
            raise ServerError(
                f"{self._failure}; check that this is the port of Triton's gRPC, by default 8001"
            )

    async def close(self) -> None:
        """Stop the health checks and close all connections."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await asyncio.gather(*(server.client.close() for server in self._servers))

    def check_now(self) -> None:
        """Check all servers at once, as after one of them was started again."""
        for server in self._servers:
            server.doubted.set()

    async def infer(self, inputs: Sequence[triton.InferInput]) -> InferResult:
        """Return the answer to one request, from any server.

        Raises ServerError if no server gives it.
        """
        before, reason = None, ""
        for attempt in range(1, ATTEMPTS + 1):
            before = server = await self._take(before)
            try:
                return await self._ask(server, inputs)
            except InferenceServerException as error:
                reason = _reason(error)
                if error.status() in _WRONG_REQUEST:
                    raise ServerError(
                        f"Triton server {server.address} refuses a request: {reason}"
                    ) from error
                _doubt(server, error)
            finally:
                await self._give_back(server)
            if attempt < ATTEMPTS:
                await asyncio.sleep(_backoff_s(attempt))
        raise ServerError(
            f"a request failed {ATTEMPTS} times, the last time on Triton server {server.address}: "
            f"{reason}"
        )

    async def _take(self, before: _Server | None) -> _Server:
        """Wait for a place on a ready server, and return the least loaded one.

        If there is a choice, it is not `before`, the server that has just failed.
        """

        def places() -> list[_Server]:
            return [
                server
                for server in self._servers
                if server.ready and server.load < self._config.in_flight
            ]

        async with self._changed:
            await self._changed.wait_for(lambda: self._failure or places())
            if self._failure:
                raise self._failure
            server = min(places(), key=lambda one: (one is before, one.load, random.random()))
            server.load += 1
            return server

    async def _give_back(self, server: _Server) -> None:
        async with self._changed:
            server.load -= 1
            self._changed.notify_all()

    async def _ask(self, server: _Server, inputs: Sequence[triton.InferInput]) -> InferResult:
        """Return the server's answer; raises its error, also if the server is lost meanwhile."""
        deadline_s = self._config.deadline_s
        call = asyncio.ensure_future(
            server.client.infer(self._model, inputs, client_timeout=deadline_s)
        )
        lost = asyncio.ensure_future(server.lost.wait())
        try:
            await asyncio.wait({call, lost}, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                return call.result()
            raise InferenceServerException(server.reason, "StatusCode.UNAVAILABLE")
        finally:
            call.cancel()
            lost.cancel()
            await asyncio.gather(call, lost, return_exceptions=True)

    async def _watch(self, server: _Server) -> None:
        """Check the server every few seconds, and soon after it is lost or doubted."""
        while True:
            pause_s = _HEALTH_EVERY_S if server.ready else _backoff_s(server.misses)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.doubted.wait(), pause_s)
            doubted = server.doubted.is_set()
            server.doubted.clear()
            try:
                reason = await self._examine(server)
            except ContractError as error:
                # A server with another model counts as lost until it has the right one again.
                reason, doubted = str(error), True
            await self._settle(
                server, reason, 1 if doubted or not server.ready else _MISSES_TO_BE_LOST
            )

    async def _examine(self, server: _Server) -> str | None:
        """Return why the server cannot take requests, or None if it can.

        Raises ContractError if it has another model.
        """
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                if not await server.client.is_server_live():
                    return "it is not live"
                # On every check: a server may have been started again with another model.
                await self._check(server.client)
                ready = await server.client.is_model_ready(self._model)
                return None if ready else f"its model {self._model} is not ready"
        except TimeoutError:
            return f"no answer within {_HEALTH_TIMEOUT_S:g} s"
        except ContractError as error:
            raise ContractError(f"Triton server {server.address}: {error}") from error
        except InferenceServerException as error:
            return _reason(error)

    async def _settle(self, server: _Server, reason: str | None, misses_to_be_lost: int) -> None:
        """Record the result of a health check, and report a server that is lost or back."""
        async with self._changed:
            server.misses = server.misses + 1 if reason else 0
            if reason is None:
                if server.lost.is_set():
                    self._on_message(f"Triton server {server.address} answers again")
                server.ready = True
                server.lost.clear()
            elif server.misses >= misses_to_be_lost:
                server.ready, server.reason = False, reason
                if not server.lost.is_set():
                    server.lost.set()
                    self._on_message(
                        f"Triton server {server.address} does not answer: {reason}; "
                        f"{self._next_step()}"
                    )
            self._changed.notify_all()

    def _next_step(self) -> str:
        others = [server.address for server in self._servers if not server.lost.is_set()]
        if others:
            return f"going on with {', '.join(others)}"
        return f"waiting for it, for up to {self._config.patience_s:g} s"

    async def _lose_patience(self) -> None:
        """Make all requests fail once no server has been ready for `patience_s` seconds."""
        since = time.monotonic()
        while True:
            await asyncio.sleep(min(0.2, self._config.patience_s))
            if any(server.ready for server in self._servers):
                since = time.monotonic()
            elif time.monotonic() - since > self._config.patience_s:
                break
        reasons = "; ".join(f"{server.address}: {server.reason}" for server in self._servers)
        async with self._changed:
            self._failure = ServerError(
                f"no Triton server has answered for {self._config.patience_s:g} s: {reasons}"
            )
            self._changed.notify_all()


def _doubt(server: _Server, error: InferenceServerException) -> None:
    """Have a server checked at once after a failure; without a connection it takes no requests."""
    if error.status() == "StatusCode.UNAVAILABLE":
        server.ready, server.reason = False, _reason(error)
    server.doubted.set()


def _reason(error: InferenceServerException) -> str:
    return " ".join(str(error.message()).split())[:300] or str(error.status())


def _backoff_s(failures: int) -> float:
    """Return a pause that doubles with each failure; random, so that clients come back apart."""
    return random.uniform(0.5, 1) * min(
        _BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures, 10)
    )
