"""How a scan presents itself to web servers, and how much it asks of them."""

import re
from dataclasses import dataclass, field

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from aigid.errors import UsageError

DEFAULT_REQUESTS_PER_HOST = 8
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# What an HTTP header can carry: Latin-1 without control characters, and no blanks around it.
_VALUE = re.compile(r"[!-~\xa1-\xff]([\t -~\xa0-\xff]*[!-~\xa1-\xff])?")
# Those that frame a message, and those that the client sets itself.
_RESERVED = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer")
    + ("upgrade", "expect", "range", "accept-encoding", "proxy-authorization", "proxy-connection")
)


@dataclass(frozen=True)
class HostHeader:
    """A header for the requests to one host: HOST, which is any of its ports, or HOST:PORT.

    Raises UsageError for what is no host and no header, without its value, which may be secret.
    """

    host: str
    name: str
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", _netloc(self.host))
        shown = f"`headers` {self.host}={self.name}"
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"`headers` {self.host}={self.name!r}: not the name of a header")
        if self.name.lower() in _RESERVED:
            raise UsageError(f"{shown}: this header cannot be set")
        if not _VALUE.fullmatch(self.value):
            raise UsageError(
                f"{shown}: the value is empty, begins or ends with a blank, or has a line break, a "
                "control character or one outside of Latin-1"
            )

    def is_for(self, url: Url) -> bool:
        """Return whether a request to this URL carries the header."""
        return self.host in (url.host, f"{url.host}:{port_of(url)}")


@dataclass(frozen=True)
class WebSettings:
    """How a scan presents itself to web servers, and how much it asks of them.

    With `respect_opt_out`, a response whose X-Robots-Tag says noai or noimageai is refused. One
    host gets at most `requests_per_host` requests at a time from this process. A fetch may take
    `deadline_s` seconds from its first request to its last byte. Raises UsageError for a
    `user_agent` that is no header's value.
    """

    user_agent: str = field(default="aigid", repr=False)
    headers: tuple[HostHeader, ...] = ()
    respect_opt_out: bool = False
    requests_per_host: int = DEFAULT_REQUESTS_PER_HOST
    deadline_s: float = 60.0

    def __post_init__(self) -> None:
        if not _VALUE.fullmatch(self.user_agent):
            raise UsageError(
                "`user_agent` is empty, begins or ends with a blank, or has a line break, a "
                "control character or one outside of Latin-1"
            )

    def headers_for(self, url: Url) -> dict[str, str]:
        """Return the headers of a request to this URL that the settings ask for."""
        own = {header.name: header.value for header in self.headers if header.is_for(url)}
        return {"User-Agent": self.user_agent} | own


def port_of(url: Url) -> int:
    """Return the port of a URL of the web, or the one that its scheme has."""
    return url.port or (443 if url.scheme == "https" else 80)


def _netloc(text: str) -> str:
    """Return a host, or a host with its port, as it stands in a parsed URL."""
    try:
        url = parse_url(f"http://{text}")
    except LocationParseError:
        url = Url()
    if not url.host or url.auth or url.path or url.query is not None or url.fragment is not None:
        raise UsageError(f"`headers` {text!r}: not a host: give HOST or HOST:PORT")
    return url.host if url.port is None else f"{url.host}:{url.port}"
