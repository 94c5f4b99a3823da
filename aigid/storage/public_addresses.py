"""Connections to public IP addresses only.

A URL in a manifest comes from a stranger. Without this check it could make a scan read from the
private network that it runs in, such as a cloud's metadata service.
"""

import ipaddress
import socket
from functools import lru_cache

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import create_connection

from aigid.storage.http_errors import RefusalReason, RefusedError

# The interpreter has such a table too, but it differs from version to version. This one follows
# IANA's registries of special-purpose addresses as of November 2026, and has what clouds use beside
# them.
_NOT_PUBLIC_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by a carrier's customers; Alibaba's metadata service
            "127.0.0.0/8",  # this host
            "168.63.129.16/32",  # Azure's metadata service
            "169.254.0.0/16",  # link-local; the metadata service of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocols; Oracle's metadata service
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # former 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
# All other IPv6 addresses are special: this host, compatible with or translated to IPv4 (::/96,
# ::ffff:0:0:0/96, 64:ff9b:1::/48), discard, unique local, link-local, site-local, multicast.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # protocols, Teredo
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
        ),
    )
)
# IPv6 addresses that stand for an IPv4 address behind a translator (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an IP address is on the public network.

    An IPv6 address that embeds an IPv4 address (mapped, 6to4, NAT64) counts as that IPv4 address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
    embedded = ip.ipv4_mapped or ip.sixtofour or nat64
    if embedded is not None:
        return is_public(str(embedded))
    return ip in _GLOBAL_UNICAST and not any(ip in network for network in _NOT_PUBLIC_V6)


def _public_addresses(host: str, port: int | None) -> list[str]:
    """Resolve a host. Raises RefusedError where any of its addresses is not public."""
    infos = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    addresses = [str(info[4][0]) for info in infos]
    for address in addresses:
        if not is_public(address):
            raise RefusedError(
                f"the address of {host} is not public: {address}", RefusalReason.PRIVATE_ADDRESS
            )
    return addresses


@lru_cache(maxsize=256)
def is_public_host(host: str) -> bool:
    """Return whether all addresses of a host are public, or it has none."""
    try:
        _public_addresses(host, None)
    except RefusedError:
        return False
    except (OSError, UnicodeError):
        # It has none. Connecting tells why.
        pass
    return True


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
