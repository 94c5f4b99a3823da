"""The routes of the service."""

import asyncio
import math
import time
from collections.abc import Awaitable
from contextlib import suppress
from http import HTTPStatus
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from aigid.detection import Detection
from aigid.errors import ServerError
from aigid.service.answers import detection_document, model_document
from aigid.service.api_keys import has_key
from aigid.service.body import HeldBytes, read_body
from aigid.service.config import ServiceConfig
from aigid.service.engine import Engine
from aigid.service.metrics import ServiceMetrics
from aigid.service.openapi import openapi_document
from aigid.service.pages import page_routes
from aigid.service.pairs import Question, parse_question
from aigid.service.problems import Problem, busy, engine_away
from aigid.service.request_log import Log, RequestLog

Result = TypeVar("Result")

PROBE_S = 5.0


class Service:
    """What the routes share: the engine, the limits, and what is in work."""

    def __init__(self, engine: Engine, config: ServiceConfig, metrics: ServiceMetrics) -> None:
        self._engine, self._config, self._metrics = engine, config, metrics
        self._held = HeldBytes(config.limits.max_held_bytes)
        self._in_work = 0
        self._pair_s = 0.0
        metrics.watch("pairs_in_work", "Pairs admitted and not answered.", lambda: self._in_work)
        metrics.watch("held_bytes", "Bytes of bodies in memory.", lambda: self._held.held)

    def app(self, log: Log) -> Starlette:
        """Return the ASGI application. `log` takes a line of JSON for each request."""
        routes = [
            Route("/v1/detect", self._detect, methods=["POST"]),
            Route("/v1/model", self._model),
            Route("/openapi.json", self._openapi),
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/metrics", self._metrics_text),
            *page_routes(),
        ]
        middleware = [Middleware(RequestLog, routes=routes, metrics=self._metrics, log=log)]
        return Starlette(
            routes=routes,
            middleware=middleware,
            exception_handlers={
                Problem: _problem_response,
                HTTPException: _http_response,
                ClientDisconnect: _gone_response,
            },
        )

    async def _detect(self, request: Request) -> Response:
        self._check_key(request)
        limits = self._config.limits
        with self._held.holding() as held:
            began = time.perf_counter()
            body = await read_body(request, limits, held)
            self._metrics.stage("read", time.perf_counter() - began)
            began = time.perf_counter()
            question = await asyncio.to_thread(parse_question, body, request.headers, limits)
            del body
            self._metrics.stage("parse", time.perf_counter() - began)
            detections = await self._answer(request, question)
        self._metrics.answers(detections)
        labels = self._engine.contract.labels
        documents = [detection_document(one, labels) for one in detections]
        return JSONResponse({"model": self._model_document(), "detections": documents})

    async def _answer(self, request: Request, question: Question) -> list[Detection]:
        count, within_s = len(question.pairs), self._config.limits.answer_s
        self._admit(count)
        began = time.monotonic()
        try:
            async with asyncio.timeout(within_s):
                return await _while_connected(request, self._engine.answer(question))
        except ServerError as error:
            raise engine_away(str(error)) from error
        except TimeoutError as error:
            raise Problem(
                HTTPStatus.GATEWAY_TIMEOUT,
                "timeout",
                f"there is no answer after {within_s:g} s",
                "Send fewer pairs in a request, or send it again later.",
            ) from error
        finally:
            self._in_work -= count
            self._learn_speed((time.monotonic() - began) / (self._in_work + count))

    def _admit(self, count: int) -> None:
        """Count pairs as in work. Raises Problem (429) where too many are."""
        most = self._config.limits.max_waiting_pairs
        if self._in_work and self._in_work + count > most:
            wait_s = min(60, max(1, math.ceil(self._in_work * self._pair_s)))
            raise busy(f"{self._in_work} pairs wait for their answers; {most} may", wait_s)
        self._in_work += count

    def _learn_speed(self, pair_s: float) -> None:
        self._pair_s += 0.1 * (pair_s - self._pair_s)

    async def _model(self, request: Request) -> Response:
        self._check_key(request)
        return JSONResponse(self._model_document())

    def _model_document(self) -> dict[str, object]:
        return model_document(self._engine.rule, self._engine.precision)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(openapi_document(self._config.limits))

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def _ready(self, request: Request) -> Response:
        try:
            await self._engine.probe(PROBE_S)
        except ServerError as error:
            raise engine_away(str(error)) from error
        return JSONResponse({"status": "ready"})

    async def _metrics_text(self, request: Request) -> Response:
        self._check_key(request)
        return PlainTextResponse(self._metrics.text(), media_type=self._metrics.media_type)

    def _check_key(self, request: Request) -> None:
        """Raise Problem (401) where keys are asked for and the request has none of them."""
        keys = self._config.api_keys
        if keys and not has_key(request.headers, keys):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "api-key",
                "the request has no valid key",
                "Send a key of this service as: Authorization: Bearer KEY",
            )


async def _while_connected(request: Request, answer: Awaitable[Result]) -> Result:
    """Wait for an answer; it is given up where the client goes. Raises ClientDisconnect then."""
    work = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        for task in (work, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _problem_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.state.request_id)


def _http_response(request: Request, error: Exception) -> Response:
    """Return the answer to a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    allow = tuple((error.headers or {}).get("Allow", "").replace(",", " ").split())
    name = "not-found" if status is HTTPStatus.NOT_FOUND else "method"
    detail = f"{request.method} is not possible here" if allow else "there is no such path"
    problem = Problem(status, name, detail, "/docs has all paths.", allow=allow)
    return problem.response(request.state.request_id)


def _gone_response(request: Request, error: Exception) -> Response:
    """Return what nobody reads: the client has gone. The status, nginx's, is for the log."""
    return Response(status_code=499)
