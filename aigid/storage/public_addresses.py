"""Which IP addresses, and which hosts, are on the public network.

A URL in a manifest comes from a stranger. Without this check it could make a scan read from the
private network that it runs in, such as a cloud's metadata service.
"""

import ipaddress
import logging
import re
import socket
from functools import lru_cache

from aigid.records import escaped
from aigid.storage.http_errors import RefusalReason, RefusedError

_log = logging.getLogger(__name__)

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
# IPv4 addresses in decimal, octal or hexadecimal numbers, one to any number of them.
_NUMERIC = re.compile(r"((0x[0-9a-f]*|\d+)(\.|$))+", re.IGNORECASE)
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


def addresses_of(host: str, port: int | None) -> list[str]:
    """Resolve a host. Raises OSError and UnicodeError where it has no address."""
    infos = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return [str(info[4][0]) for info in infos]


def public_addresses(host: str, port: int | None) -> list[str]:
    """Resolve a host. Raises RefusedError where any of its addresses is not public."""
    addresses = addresses_of(host, port)
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
        public_addresses(host, None)
    except RefusedError:
        return False
    except (OSError, UnicodeError):
        # It has none. Connecting tells why.
        pass
    return True


@lru_cache(maxsize=4096)
def check_proxied_host(host: str) -> bool:
    """Return whether the addresses of a host that a proxy is to ask are known here.

    Raises RefusedError where any of them is not public. Warns, once in a process, where the name
    does not resolve here: the proxy may find any address for it.
    """
    try:
        public_addresses(host, None)
    except (OSError, UnicodeError) as error:
        if _NUMERIC.fullmatch(host) or "[" in host:
            # Not a name: an odd spelling of an address, which the proxy may know how to read.
            raise RefusedError(
                f"{host} is not the usual form of an address", RefusalReason.PRIVATE_ADDRESS
            ) from error
        _warn_of_unknown_host(host)
        return False
    return True


@lru_cache(maxsize=1)
def _said() -> set[str]:
    return set()


def _warn_of_unknown_host(host: str) -> None:
    if not _said():
        _said().add(host)
        _log.warning(
            "%s does not resolve here, only at the proxy: aigid cannot check that such hosts have "
            "public addresses; have the proxy refuse private ones",
            escaped(host),
        )
