"""The proxies that the environment names, as curl and most other tools read it.

HTTP_PROXY is for http, HTTPS_PROXY for https, ALL_PROXY for both, and NO_PROXY lists the hosts that
are asked directly. The names may be in lower case, which then goes before.
"""

import base64
import ipaddress
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from aigid.errors import UsageError
from aigid.storage.web_settings import port_of

_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]+):(\d+)")


@dataclass(frozen=True)
class Proxy:
    """A proxy: its URL without credentials, the variable that names it, and its credentials."""

    url: str
    variable: str
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the proxy itself is to get."""
        if self.user is None:
            return {}
        credentials = base64.b64encode(f"{self.user}:{self.password}".encode())
        return {"Proxy-Authorization": f"Basic {credentials.decode()}"}


def proxy_for(url: Url) -> Proxy | None:
    """Return the proxy for a URL of the web, None where its host is asked directly.

    Raises UsageError for a proxy that cannot be used.
    """
    for name in (f"{url.scheme}_proxy", "all_proxy"):
        variable = name if name in os.environ else name.upper()
        value = os.environ.get(variable)
        if value is not None:
            # As a lower-case name does, an empty value goes before: it means none.
            bypassed = bypasses(url, os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")))
            return None if bypassed or not value.strip() else _parse(variable, value.strip())
    return None


def bypasses(url: Url, no_proxy: str) -> bool:
    """Return whether NO_PROXY lists the host of a URL.

    An entry is `*`, a host (with all below it), HOST:PORT, an IP address, or a network in CIDR
    notation. A dot or `*.` before a host changes nothing.
    """
    host = (url.host or "").lower().strip("[]").rstrip(".")
    return any(_lists(entry.lower(), host, port_of(url)) for entry in re.split(r"[,\s]+", no_proxy))


def _lists(entry: str, host: str, port: int) -> bool:
    with_port = _PORT.fullmatch(entry)
    if with_port:
        entry = with_port[1]
        if int(with_port[2]) != port:
            return False
    entry = entry.strip("[]").rstrip(".")
    address = _address(host)
    if address is not None:
        try:
            return entry == "*" or address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name = entry.removeprefix("*").removeprefix(".")
    return entry == "*" or bool(name) and f".{host}".endswith(f".{name}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


@lru_cache(maxsize=16)
def _parse(variable: str, value: str) -> Proxy:
    try:
        url = parse_url(value if "://" in value else f"http://{value}")
    except LocationParseError as error:
        raise UsageError(f"{variable} is not the URL of a proxy: give http://HOST:PORT") from error
    if url.scheme not in ("http", "https"):
        raise UsageError(
            f"{variable}: {url.scheme}:// proxies are not supported: give http://HOST:PORT"
        )
    if not url.host:
        raise UsageError(f"{variable} is not the URL of a proxy: give http://HOST:PORT")
    user, separator, password = (url.auth or "").partition(":")
    place = Url(url.scheme, None, url.host, url.port or (443 if url.scheme == "https" else 80)).url
    has_user = url.auth is not None
    return Proxy(place, variable, unquote(user) if has_user else None, unquote(password))
