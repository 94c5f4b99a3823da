"""Connections to public IP addresses only.

A URL in a manifest comes from a stranger. Without this check it could make a scan read from the
private network that it runs in, such as a cloud's metadata service.
"""

import ipaddress
import socket

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection

from aigid.storage.http_errors import RefusalReason, RefusedError

# IPv6 addresses that stand for an IPv4 address behind a translator (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public network.

    An IPv6 address that embeds an IPv4 address (mapped, 6to4, NAT64) counts as that IPv4 address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        embedded = ip.ipv4_mapped or ip.sixtofour or nat64
        if embedded is not None:
            return is_public(str(embedded))
    return ip.is_global and not ip.is_multicast


def _public_addresses(host: str, port: int) -> list[str]:
    """Resolve a host. Raises RefusedError where any of its addresses is not public."""
    infos = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in infos]
    for address in addresses:
        if not is_public(address):
            raise RefusedError(
                f"the address of {host} is not public: {address}", RefusalReason.PRIVATE_ADDRESS
            )
    return addresses


class _PublicHTTPConnection(HTTPConnection):
    """Connects to the address that was checked: a second look-up could give another one."""

    def _new_conn(self) -> socket.socket:
        try:
            addresses = _public_addresses(self.host, self.port)
        except (socket.gaierror, UnicodeError) as error:
            reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
            raise exceptions.NameResolutionError(self.host, self, reason) from error
        failure: Exception = OSError("the name has no address")
        for address in addresses:
            try:
                return create_connection(
                    (address, self.port), self.timeout, socket_options=self.socket_options
                )
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise exceptions.ConnectTimeoutError(self, "no connection in time") from failure
        raise exceptions.NewConnectionError(self, str(failure)) from failure


class _PublicHTTPSConnection(_PublicHTTPConnection, HTTPSConnection):
    """The same over TLS. The certificate must be for the host's name, not for its address."""


class _PublicHTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PublicHTTPConnection


class _PublicHTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicHTTPSConnection


PUBLIC_POOL_CLASSES = {"http": _PublicHTTPPool, "https": _PublicHTTPSPool}
"""By scheme, the connection pools that `urllib3.PoolManager` takes."""
