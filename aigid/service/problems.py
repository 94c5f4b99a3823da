"""What is wrong with a request, in the one JSON form of all errors (RFC 9457)."""

from dataclasses import dataclass
from http import HTTPStatus

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass
class Problem(Exception):  # noqa: N818 - the name in RFC 9457
    """A request that cannot be answered: its status, a name for programs, and what to do.

    `retry_after_s` is for those that may be sent again, `allow` has the methods of a path.
    """

    status: HTTPStatus
    name: str
    detail: str
    remedy: str
    retry_after_s: int | None = None
    allow: tuple[str, ...] = ()

    def response(self, request_id: str) -> JSONResponse:
        """Return the answer, a problem document."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.allow:
            headers["Allow"] = ", ".join(self.allow)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="aigid"'
        document = {
            "type": f"/docs#{self.name}",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            "remedy": self.remedy,
            "request_id": request_id,
        }
        return JSONResponse(document, int(self.status), headers, MEDIA_TYPE)


def malformed(detail: str, remedy: str) -> Problem:
    """Return the problem of a body that is not what its type says: 400."""
    return Problem(HTTPStatus.BAD_REQUEST, "malformed", detail, remedy)


def invalid(detail: str, remedy: str) -> Problem:
    """Return the problem of a body that can be read, but asks for what there is not: 422."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, remedy)


def too_large(detail: str, remedy: str) -> Problem:
    """Return the problem of a request over a limit: 413."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail, remedy)


def busy(detail: str, retry_after_s: int) -> Problem:
    """Return the problem of a service that has enough to do: 429."""
    remedy = f"Send the request again after {retry_after_s} s, or send fewer at a time."
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "busy", detail, remedy, retry_after_s)


def engine_away(detail: str, retry_after_s: int = 5) -> Problem:
    """Return the problem of an engine that does not answer: 503."""
    remedy = "Send the request again later; /readyz tells when the engine answers."
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return Problem(status, "engine-away", detail, remedy, retry_after_s)
