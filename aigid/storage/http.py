"""Images over http and https: pooled connections, to public addresses alone, within limits of size and time."""

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Retry, Timeout
from urllib3.util.connection import create_connection

from aigid.records import ErrorCode, RowFailure

WEB_SCHEMES = ("http", "https")
_ATTEMPTS = 3
_CONNECT_S, _SILENCE_S, _TOTAL_S, _PAUSE_S = 10.0, 20.0, 60.0, 0.5
# Connections to one host at a time, and to how many hosts they are kept open.
_CONNECTIONS, _HOSTS = 64, 256
_CHUNK_BYTES = 1 << 16
_HEADERS = {"User-Agent": "aigid", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
_NOT_ALLOWED = (401, 402, 403, 407, 451)
# Worth another attempt: too many requests, and what servers say of their own failures.
_FAILING = (429, 500, 502, 503, 504)
_NO_RANGES = "the server gives no ranges of files: fetch it, and scan it here"
Fetched = TypeVar("Fetched")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Unreachable(RowFailure):
    """A row's failure that says more of the network, or of a host, than of the image."""

    def __init__(self, code: ErrorCode, detail: str, host: str) -> None:
        """Carry the host too: when many hosts in a row cannot be reached, the network is down."""
        super().__init__(code, detail)
        self.host = host


@dataclass(frozen=True)
class WebRange:
    """A part of a file on a web server: its bytes, the whole file's size, and when the server says it was modified."""

    data: bytes
    size: int
    modified: str | None


def fetch_web(url: str, max_bytes: int, *, allow_private: bool) -> bytes:
    """The body at a URL, at most `max_bytes`. Redirects are followed, each to an address that is checked.

    Raises RowFailure: missing (the server says so, or there is no such host), forbidden (it refuses, or the address is a
    private one), too_large; and Unreachable, timeout, where it was not to be had in three attempts and a minute.
    """
    return _in_attempts(
        lambda deadline: _fetch(url, {}, max_bytes, deadline, _pool(allow_private))[0]
    )


def fetch_range(url: str, start: int, stop: int) -> WebRange:
    """The bytes `start` to `stop` of a file at a URL, whatever address it is at.

    Raises RowFailure as `fetch_web` does, and where the server gives no ranges.
    """

    def fetch(deadline: float) -> WebRange:
        span = {"Range": f"bytes={start}-{stop - 1}"}
        data, headers = _fetch(url, span, stop - start, deadline, _pool(True))
        given = re.fullmatch(rf"bytes {start}-\d+/(\d+)", headers.get("Content-Range", ""))
        if given is None:
            raise RowFailure(ErrorCode.UNDECODABLE, _NO_RANGES)
        return WebRange(data, int(given[1]), headers.get("Last-Modified"))

    return _in_attempts(fetch)


def _in_attempts(fetch: Callable[[float], Fetched]) -> Fetched:
    """What a function gives that is told the time by which it must be done; tried again where that may help."""
    deadline = time.monotonic() + _TOTAL_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return fetch(deadline)
        except Unreachable as failure:
            if (
                attempt == _ATTEMPTS
                or failure.error.code != ErrorCode.TIMEOUT
                or time.monotonic() > deadline
            ):
                raise
        time.sleep(_PAUSE_S * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _fetch(
    url: str, headers: dict[str, str], max_bytes: int, deadline: float, pool: urllib3.PoolManager
) -> tuple[bytes, Mapping[str, str]]:
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        answer = pool.request("GET", url, headers=_HEADERS | headers, preload_content=False)
        try:
            _check_status(answer.status, host)
            if "Range" in headers and answer.status != 206:
                raise RowFailure(ErrorCode.UNDECODABLE, _NO_RANGES)
            data = _read(answer, max_bytes, deadline, host)
        except BaseException:
            # What is not read to its end cannot be asked again.
            answer.close()
            raise
        answer.release_conn()
        return data, answer.headers
    except exceptions.LocationValueError as error:
        raise RowFailure(ErrorCode.MISSING, "not a URL that can be fetched") from error
    except exceptions.MaxRetryError as error:
        raise _failure(error.reason or error, host) from error
    except (exceptions.HTTPError, ValueError, OSError) as error:
        raise _failure(error, host) from error


def _check_status(status: int, host: str) -> None:
    if status in (200, 206):
        return
    said = f"the server answers {status}"
    if status in _FAILING:
        raise Unreachable(ErrorCode.TIMEOUT, said, host)
    raise RowFailure(ErrorCode.FORBIDDEN if status in _NOT_ALLOWED else ErrorCode.MISSING, said)


def _read(answer: urllib3.BaseHTTPResponse, max_bytes: int, deadline: float, host: str) -> bytes:
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise RowFailure(ErrorCode.TOO_LARGE, f"{length} bytes; the limit is {max_bytes}")
    data = bytearray()
    # read1 gives what is there: a server may send a byte now and then, for ever.
    while chunk := answer.read1(_CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise RowFailure(
                ErrorCode.TOO_LARGE, f"more than {max_bytes} bytes, which is the limit"
            )
        if time.monotonic() > deadline:
            raise Unreachable(
                ErrorCode.TIMEOUT, f"{len(data)} bytes in {_TOTAL_S:g} s, and not all", host
            )
    return bytes(data)


def _failure(error: Exception, host: str) -> RowFailure:
    if isinstance(error, exceptions.NameResolutionError):
        return Unreachable(ErrorCode.MISSING, "no such host", host)
    if isinstance(error, exceptions.ResponseError):
        return RowFailure(ErrorCode.MISSING, "too many redirects")
    if isinstance(error, exceptions.SSLError | ssl.SSLError):
        return RowFailure(
            ErrorCode.FORBIDDEN, "the server's certificate is not trusted, or it speaks no TLS"
        )
    if isinstance(error, exceptions.NewConnectionError):
        return Unreachable(ErrorCode.TIMEOUT, "no connection", host)
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return Unreachable(ErrorCode.TIMEOUT, "no answer in time", host)
    if isinstance(error, ValueError):
        return RowFailure(ErrorCode.MISSING, "not a URL that can be fetched")
    return Unreachable(ErrorCode.TIMEOUT, "the connection was cut", host)


@lru_cache(maxsize=2)
def _pool(allow_private: bool) -> urllib3.PoolManager:
    """One for all threads of a process; attempts are counted here, not there."""
    retries = Retry(
        total=None,
        connect=0,
        read=0,
        status=0,
        other=0,
        redirect=5,
        respect_retry_after_header=False,
    )
    timeout = Timeout(connect=_CONNECT_S, read=_SILENCE_S)
    pool = urllib3.PoolManager(
        _HOSTS, maxsize=_CONNECTIONS, block=False, retries=retries, timeout=timeout
    )
    if not allow_private:
        pool.pool_classes_by_scheme = {"http": _PublicHTTPPool, "https": _PublicHTTPSPool}
    return pool


def _public_addresses(host: str, port: int) -> Iterator[str]:
    """The addresses of a host; raises RowFailure where one is not of the public network, whatever name leads there."""
    found = [
        str(facts[4][0])
        for facts in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    ]
    for address in found:
        if not is_public(address):
            detail = f"{host} is not on the public network ({address}); --allow-private-addresses allows it"
            raise RowFailure(ErrorCode.FORBIDDEN, detail)
    yield from found


def is_public(address: str) -> bool:
    """Whether an IP address is of the public network; what an IPv6 address stands for counts."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = (
            ip.ipv4_mapped
            or ip.sixtofour
            or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        )
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


class _PublicHTTPConnection(HTTPConnection):
    """Connects to the very address that was checked: asked again, a name could lead elsewhere."""

    def _new_conn(self) -> socket.socket:
        failure: Exception = OSError("the name has no address")
        try:
            for address in _public_addresses(self.host, self.port):
                try:
                    return create_connection(
                        (address, self.port), self.timeout, socket_options=self.socket_options
                    )
                except OSError as error:
                    failure = error
        except (socket.gaierror, UnicodeError) as error:
            reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise exceptions.NameResolutionError(self.host, self, reason) from error
        if isinstance(failure, TimeoutError):
            raise exceptions.ConnectTimeoutError(self, "no connection in time") from failure
        raise exceptions.NewConnectionError(self, str(failure)) from failure


class _PublicHTTPSConnection(_PublicHTTPConnection, HTTPSConnection):
    """The same, with TLS for the host's name."""


class _PublicHTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PublicHTTPConnection


class _PublicHTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPSConnection
