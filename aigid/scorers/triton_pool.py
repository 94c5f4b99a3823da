"""Several Triton servers as one: the least loaded is asked, one that fails is watched, and its requests go elsewhere."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from aigid.errors import ContractError, ServerError
from aigid.scorers.triton_config import TlsConfig, TritonConfig

# Of one request, before scoring ends: what five servers refuse is no accident.
ATTEMPTS = 5

_HEALTH_EVERY_S, _HEALTH_TIMEOUT_S = 5.0, 10.0
# Two in a row: one may be a server whose cores are all busy.
_MISSES_TO_BE_LOST = 2
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.25, 5.0

# What a server says when the request itself is wrong: another would say the same.
_OUR_FAULT = {
    f"StatusCode.{name}"
    for name in ("INVALID_ARGUMENT", "UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED")
}
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    # gRPC's own limit is two minutes: a server that is back would not be seen for so long.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 2000),
)

Check = Callable[[Any], Awaitable[None]]
"""Raises ContractError where a client's server is not one that is wanted."""


@dataclass(eq=False)
class _Server:
    address: str
    client: Any
    load: int = 0
    ready: bool = False
    misses: int = 0
    reason: str = "not asked yet"
    doubted: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class TritonPool:
    """Asks for one model, of whichever server is best; all of it runs on one event loop."""

    def __init__(
        self, config: TritonConfig, model: str, check: Check, on_message: Callable[[str], None]
    ) -> None:
        """Know the servers, without asking them; `on_message` is told, in a line, when one is lost and when it is back."""
        self._config, self._model, self._check, self._notify = config, model, check, on_message
        self._servers = [
            _Server(address, _client(address, config.tls)) for address in config.addresses
        ]
        self._changed = asyncio.Condition()
        self._watches: list[asyncio.Task[None]] = []
        self._failure: ServerError | None = None

    async def open(self) -> None:
        """Wait until a server answers.

        Raises ContractError where the model of one is another, and ServerError where none answers in time.
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
                f"{self._failure}; is that the port of Triton's gRPC, 8001 unless it was told otherwise?"
            )

    async def close(self) -> None:
        """End all that runs, and the connections."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await asyncio.gather(*(server.client.close() for server in self._servers))

    async def infer(self, inputs: Sequence[Any]) -> Any:
        """The answer to one request, from any server. Raises ServerError when none can give it."""
        before, reason = None, ""
        for attempt in range(1, ATTEMPTS + 1):
            before = server = await self._take(before)
            try:
                return await self._ask(server, inputs)
            except InferenceServerException as error:
                reason = _reason(error)
                if error.status() in _OUR_FAULT:
                    raise ServerError(
                        f"Triton server {server.address} refuses a request: {reason}"
                    ) from error
                _doubt(server, error)
            finally:
                await self._give_back(server)
            if attempt < ATTEMPTS:
                await asyncio.sleep(_backoff_s(attempt))
        raise ServerError(
            f"a request failed {ATTEMPTS} times, the last time on Triton server {server.address}: {reason}"
        )

    async def _take(self, before: _Server | None) -> _Server:
        """The least loaded server that is ready, another than `before` if there is one; waits until there is a place."""

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

    async def _ask(self, server: _Server, inputs: Sequence[Any]) -> Any:
        """The server's answer, or its error; also when the server is found to be lost meanwhile."""
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
            for task in (call, lost):
                task.cancel()
            await asyncio.gather(call, lost, return_exceptions=True)

    async def _watch(self, server: _Server) -> None:
        """Look at the server every few seconds, and soon after it was lost or doubted."""
        while True:
            if server.ready or server.doubted.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(server.doubted.wait(), _HEALTH_EVERY_S)
            else:
                await asyncio.sleep(_backoff_s(server.misses))
            doubted = server.doubted.is_set()
            server.doubted.clear()
            try:
                reason = await self._examine(server)
            except ContractError as error:
                # As good as lost, until it has the right one again.
                reason, doubted = str(error), True
            await self._settle(
                server, reason, 1 if doubted or not server.ready else _MISSES_TO_BE_LOST
            )

    async def _examine(self, server: _Server) -> str | None:
        """Why the server cannot be asked, or None; raises ContractError where its model is another."""
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                if not await server.client.is_server_live():
                    return "it is not live"
                # Every time: a server may have been started anew with another model since.
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
        """Note what was found, and tell of what changes."""
        async with self._changed:
            server.misses = server.misses + 1 if reason else 0
            if reason is None:
                if server.lost.is_set():
                    self._notify(f"Triton server {server.address} answers again")
                server.ready = True
                server.lost.clear()
            elif server.misses >= misses_to_be_lost:
                server.ready, server.reason = False, reason
                if not server.lost.is_set():
                    server.lost.set()
                    self._notify(
                        f"Triton server {server.address} does not answer: {reason}; {self._what_now()}"
                    )
            self._changed.notify_all()

    def _what_now(self) -> str:
        others = [server.address for server in self._servers if not server.lost.is_set()]
        if others:
            return f"going on with {', '.join(others)}"
        return f"waiting for it, for up to {self._config.patience_s:g} s"

    async def _lose_patience(self) -> None:
        """End all waiting when no server has been ready for too long."""
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


def _client(address: str, tls: TlsConfig | None) -> Any:
    def text(path: Path | None) -> str | None:
        return None if path is None else str(path)

    if tls is None:
        return triton.InferenceServerClient(address, channel_args=_CHANNEL_OPTIONS)
    return triton.InferenceServerClient(
        address,
        ssl=True,
        root_certificates=text(tls.root_certificates),
        private_key=text(tls.private_key),
        certificate_chain=text(tls.certificate_chain),
        channel_args=_CHANNEL_OPTIONS,
    )


def _doubt(server: _Server, error: InferenceServerException) -> None:
    """After a failure: have its watch look at once; without a connection the server gets no more requests until then."""
    if error.status() == "StatusCode.UNAVAILABLE":
        server.ready, server.reason = False, _reason(error)
    server.doubted.set()


def _reason(error: InferenceServerException) -> str:
    return " ".join(str(error.message()).split())[:300] or str(error.status())


def _backoff_s(failures: int) -> float:
    """Doubling from one failure to the next, and by chance, so that clients do not come back all at once."""
    return random.uniform(0.5, 1) * min(
        _BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures, 10)
    )
