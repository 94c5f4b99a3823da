"""An HTTP client for files: pooled connections, three attempts, limits on size and time.

It raises the errors of `aigid.storage.http_errors`, and knows nothing of manifests or rows.
"""

import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions
from urllib3.util import Retry, Timeout

from aigid.storage.http_errors import (
    HttpError,
    NoRangesError,
    NotFoundError,
    RefusalReason,
    RefusedError,
    TooLargeError,
    UnknownHostError,
    UnreachableError,
)
from aigid.storage.public_addresses import PUBLIC_POOL_CLASSES, is_public_host

_ATTEMPTS = 3
# The pause doubles after each attempt.
_FIRST_PAUSE_S = 1.0
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 20.0
# For all attempts together.
_TOTAL_TIMEOUT_S = 60.0
_CONNECTIONS_PER_HOST, _POOLED_HOSTS = 64, 256
_MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 16
_HEADERS = {"User-Agent": "aigid", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
_DENIED_STATUSES = (401, 402, 403, 407, 451)
# Too many requests, and the server's own failures: another attempt may succeed.
_TEMPORARY_STATUSES = (429, 500, 502, 503, 504)
_NO_RANGES = (
    "the server does not send parts of files (HTTP ranges): download the file, and scan the copy"
)
_NOT_A_URL = "not a URL that can be fetched"
Result = TypeVar("Result")


@dataclass(frozen=True)
class FileRange:
    """A part of a file on a web server.

    `size` is the whole file's, in bytes. `modified` is the Last-Modified header, None without one.
    """

    data: bytes
    size: int
    modified: str | None


def download(url: str, max_bytes: int, *, allow_private: bool) -> bytes:
    """Return the body at a URL. Up to 5 redirects are followed, under the same rules.

    Unless `allow_private`, only public addresses are connected to. Raises NotFoundError,
    RefusedError, TooLargeError for more than `max_bytes`, and UnreachableError after three attempts
    or 60 seconds.
    """
    pool = _pool(allow_private)
    return _with_retries(lambda deadline: _request(url, {}, max_bytes, deadline, pool)[0])


def download_range(url: str, start: int, stop: int) -> FileRange:
    """Return the bytes from `start` up to, and without, `stop` of the file at a URL.

    The address of the server may be private, since the user names it. A public server may not
    redirect to a private one. Raises what `download` raises, and NoRangesError.
    """

    def request(deadline: float) -> FileRange:
        wanted = {"Range": f"bytes={start}-{stop - 1}"}
        pool = _pool(not is_public_host(_host(url)))
        data, headers = _request(url, wanted, stop - start, deadline, pool)
        sent = re.fullmatch(rf"bytes {start}-\d+/(\d+)", headers.get("Content-Range", ""))
        if sent is None:
            raise NoRangesError(_NO_RANGES)
        return FileRange(data, int(sent[1]), headers.get("Last-Modified"))

    return _with_retries(request)


def _with_retries(request: Callable[[float], Result]) -> Result:
    """Call `request` with a deadline (of `time.monotonic`). Retry while the host is unreachable."""
    deadline = time.monotonic() + _TOTAL_TIMEOUT_S
    for attempt in range(_ATTEMPTS):
        try:
            return request(deadline)
        except UnknownHostError:
            raise
        except UnreachableError:
            if attempt == _ATTEMPTS - 1 or time.monotonic() > deadline:
                raise
        time.sleep(_FIRST_PAUSE_S * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _request(
    url: str, headers: dict[str, str], max_bytes: int, deadline: float, pool: urllib3.PoolManager
) -> tuple[bytes, Mapping[str, str]]:
    """Return the body and the headers of one GET request."""
    host = _host(url)
    try:
        response = pool.request("GET", url, headers=_HEADERS | headers, preload_content=False)
        try:
            _check_status(response.status, host)
            if "Range" in headers and response.status != 206:
                raise NoRangesError(_NO_RANGES)
            data = _read_body(response, max_bytes, deadline, host)
        except BaseException:
            # The connection cannot be used again while a part of the body is unread.
            response.close()
            raise
        response.release_conn()
        return data, response.headers
    except exceptions.LocationValueError as error:
        raise NotFoundError(_NOT_A_URL) from error
    except exceptions.MaxRetryError as error:
        raise _http_error(error.reason or error, host) from error
    except (exceptions.HTTPError, ValueError, OSError) as error:
        raise _http_error(error, host) from error


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _check_status(status: int, host: str) -> None:
    if status in (200, 206):
        return
    message = f"the server answers {status}"
    if status in _TEMPORARY_STATUSES:
        raise UnreachableError(message, host)
    if status in _DENIED_STATUSES:
        raise RefusedError(message, RefusalReason.STATUS)
    raise NotFoundError(message)


def _read_body(
    response: urllib3.BaseHTTPResponse, max_bytes: int, deadline: float, host: str
) -> bytes:
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise TooLargeError(f"{length} bytes; the limit is {max_bytes}")
    data = bytearray()
    # `read1` returns what has arrived. `read` would wait as long as a slow server sends single
    # bytes, each within the read timeout.
    while chunk := response.read1(_CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise TooLargeError(f"larger than the limit of {max_bytes} bytes")
        if time.monotonic() > deadline:
            raise UnreachableError(f"not complete after {_TOTAL_TIMEOUT_S:g} s", host)
    return bytes(data)


def _http_error(error: Exception, host: str) -> HttpError:
    """Return the error of this client for one of urllib3's or of the socket."""
    if isinstance(error, exceptions.NameResolutionError):
        return UnknownHostError("no such host", host)
    if isinstance(error, exceptions.ResponseError):
        return NotFoundError("too many redirects")
    if isinstance(error, exceptions.SSLError | ssl.SSLError):
        return RefusedError(
            "the server's certificate is not trusted, or the server does not speak TLS",
            RefusalReason.TLS,
        )
    if isinstance(error, exceptions.NewConnectionError):
        return UnreachableError("no connection", host)
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return UnreachableError("no answer in time", host)
    if isinstance(error, ValueError):
        return NotFoundError(_NOT_A_URL)
    return UnreachableError("the connection was cut", host)


@lru_cache(maxsize=2)
def _pool(allow_private: bool) -> urllib3.PoolManager:
    """Return the connections that all threads of this process share."""
    # urllib3 only follows redirects; `_with_retries` makes the attempts.
    retries = Retry(
        total=None,
        connect=0,
        read=0,
        status=0,
        other=0,
        redirect=_MAX_REDIRECTS,
        respect_retry_after_header=False,
    )
    pool = urllib3.PoolManager(
        _POOLED_HOSTS,
        maxsize=_CONNECTIONS_PER_HOST,
        block=False,
        retries=retries,
        timeout=Timeout(connect=_CONNECT_TIMEOUT_S, read=_READ_TIMEOUT_S),
    )
    if not allow_private:
        pool.pool_classes_by_scheme = PUBLIC_POOL_CLASSES
    return pool
