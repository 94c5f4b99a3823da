"""Connections to web servers: each request has one deadline, and addresses are checked first.

urllib3's timeouts hold for each single read. A server that sends a byte now and then would keep a
thread for as long as it likes: with headers, the sizes of chunks, trailers, or answers 100. Here
every read ends at the deadline of the whole request.
"""

import math
import socket
import ssl
import time
from functools import lru_cache
from http.client import HTTPResponse, parse_headers
from threading import Lock
from typing import Any

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Timeout
from urllib3.util.connection import create_connection

from aigid.storage.proxies import Proxy
from aigid.storage.public_addresses import addresses_of, public_addresses

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 20.0
_CONNECTIONS_PER_HOST, _POOLED_HOSTS = 64, 256


# Two threads that come first at the same time would get connections of their own.
_making = Lock()


def connections(*, public_only: bool, proxy: Proxy | None) -> urllib3.PoolManager:
    """Return the connections that all threads of this process share.

    With `public_only`, they lead to public addresses. Through a proxy, the addresses of the servers
    are not known here: the caller checks their names. Requests need a `Timeout` with a `total`.
    """
    with _making:
        return _connections(public_only and proxy is None, proxy)


@lru_cache(maxsize=8)
def _connections(public_only: bool, proxy: Proxy | None) -> urllib3.PoolManager:
    tls = _TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_default_certs()
    options: dict[str, Any] = {
        "num_pools": _POOLED_HOSTS,
        "maxsize": _CONNECTIONS_PER_HOST,
        "block": False,
        "timeout": Timeout(total=_READ_TIMEOUT_S),
        "ssl_context": tls,
    }
    if proxy is None:
        pool = urllib3.PoolManager(**options)
    else:
        pool = urllib3.ProxyManager(
            proxy.url, proxy_headers=proxy.headers, proxy_ssl_context=tls, **options
        )
    pool.pool_classes_by_scheme = _PUBLIC_POOLS if public_only else _POOLS
    return pool


def _seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline is reached")
    return left


class _Socket(socket.socket):
    """A socket whose reads end at `deadline`, of `time.monotonic`, or after 20 s of silence."""

    deadline = math.inf

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(min(_READ_TIMEOUT_S, _seconds_left(self.deadline)))
        return super().recv_into(*arguments, **options)


class _TlsSocket(ssl.SSLSocket):
    """The same over TLS."""

    deadline = math.inf

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        self.settimeout(min(_READ_TIMEOUT_S, _seconds_left(self.deadline)))
        return super().recv_into(*arguments, **options)

    # urllib3 calls it for TLS within TLS, to a server behind a proxy.
    def recv(self, *arguments: Any, **options: Any) -> bytes:
        self.settimeout(min(_READ_TIMEOUT_S, _seconds_left(self.deadline)))
        return super().recv(*arguments, **options)


class _TlsContext(ssl.SSLContext):
    """Makes sockets that keep the deadline. The handshake ends with the plain socket's timeout."""

    sslsocket_class = _TlsSocket

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        deadline = getattr(sock, "deadline", math.inf)
        sock.settimeout(min(_READ_TIMEOUT_S, _seconds_left(deadline)))
        wrapped = super().wrap_socket(sock, *arguments, **options)
        _set_deadline(wrapped, deadline)
        return wrapped


def _set_deadline(sock: Any, deadline: float) -> None:
    """Set the deadline of a socket, and of those that it wraps (TLS within TLS)."""
    while sock is not None:
        sock.deadline = deadline
        sock = getattr(sock, "socket", None)


class _Response(HTTPResponse):
    """Passes over interim answers, such as 103. http.client does so for 100 alone."""

    def _read_status(self) -> tuple[str, int, str]:
        answer: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        while 100 < answer[1] < 200 and answer[1] != 101:
            parse_headers(self.fp)
            answer = super()._read_status()  # type: ignore[misc]
        return answer


class _Connection(HTTPConnection):
    """A connection whose `timeout` runs down.

    Before each step, urllib3 sets it to what is left of a request's total.
    """

    response_class = _Response
    _deadline = math.inf

    @property
    def timeout(self) -> Any:
        """The seconds left, of which there are always some."""
        return max(self._deadline - time.monotonic(), 1e-3)

    @timeout.setter
    def timeout(self, seconds: Any) -> None:
        self._deadline = time.monotonic() + seconds
        _set_deadline(getattr(self, "sock", None), self._deadline)

    def _addresses(self) -> list[str]:
        return addresses_of(self.host, self.port)

    def _new_conn(self) -> socket.socket:
        try:
            addresses = self._addresses()
        except (socket.gaierror, UnicodeError) as error:
            reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise exceptions.NameResolutionError(self.host, self, reason) from error
        failure: Exception = OSError("the name has no address")
        for address in addresses:
            try:
                return self._connect_to(address)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise exceptions.ConnectTimeoutError(self, "no connection in time") from failure
        raise exceptions.NewConnectionError(self, str(failure)) from failure

    def _connect_to(self, address: str) -> _Socket:
        timeout_s = min(_CONNECT_TIMEOUT_S, _seconds_left(self._deadline))
        place = (address, self.port)
        plain = create_connection(place, timeout_s, socket_options=self.socket_options)
        sock = _Socket(fileno=plain.detach())
        sock.deadline = self._deadline
        sock.settimeout(self.timeout)
        return sock


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS. The certificate must be for the host's name, not for its address."""


class _PublicConnection(_Connection):
    """Connects to the address that was checked: a second look-up could give another one."""

    def _addresses(self) -> list[str]:
        return public_addresses(self.host, self.port)


class _PublicTlsConnection(_PublicConnection, _TlsConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _PublicPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PublicConnection


class _PublicTlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicTlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}
_PUBLIC_POOLS = {"http": _PublicPool, "https": _PublicTlsPool}
