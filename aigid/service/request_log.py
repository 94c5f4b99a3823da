"""A line of JSON for each request, its id, and its count."""

import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aigid.service.metrics import ServiceMetrics
from aigid.service.problems import Problem

# An id that a client or a proxy gives is taken if it can be nothing else than an id.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNKNOWN_PATH = "other"

Log = Callable[[str], None]
"""Takes the line of a request."""


class RequestLog:
    """Middleware: gives each request an id, counts and logs it, and turns a fault of ours into 500.

    The log has no prompt, no image and no query.
    """

    def __init__(
        self, app: ASGIApp, routes: Sequence[Route], metrics: ServiceMetrics, log: Log
    ) -> None:
        self._app, self._routes, self._metrics, self._log = app, routes, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; what is none is passed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            logging.getLogger("aigid.service").exception("request %s failed", request_id)
            if not status:
                response = _fault().response(request_id)
                await response(scope, receive, send_with_id)
        finally:
            self._note(scope, request_id, status, time.perf_counter() - began)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        path = self._path(scope)
        self._metrics.request(path, status, seconds)
        client = scope.get("client") or ("", 0)
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": request_id,
            "client": client[0],
            "method": scope["method"],
            "path": path,
            "status": status,
            "seconds": round(seconds, 4),
        }
        self._log(json.dumps(record))

    def _path(self, scope: Scope) -> str:
        """Return the path of the route: what strangers write would be labels without end."""
        for route in self._routes:
            if route.matches(scope)[0] is not Match.NONE:
                return route.path
        return _UNKNOWN_PATH


def _fault() -> Problem:
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "fault",
        "the service has a fault",
        "Tell the operator the request_id; the service's log has the reason.",
    )
