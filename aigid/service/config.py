"""The settings of the HTTP service."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from aigid.decisions import DEFAULT_THRESHOLD
from aigid.errors import UsageError
from aigid.fetch import FetchPolicy
from aigid.records import Mode


@dataclass(frozen=True)
class ServiceLimits:
    """What clients may ask for, and for how long.

    `max_held_bytes` bounds the bodies of all requests in memory together, `max_waiting_pairs` the
    pairs that are not answered yet, and `max_connections` the open connections. A client has
    `header_s` seconds to send the head of a request, `body_s` for its body, of which a part must
    come every `idle_s` seconds. A connection without a request is closed after `idle_s`. A request
    is answered within `answer_s`, and after a stop within `drain_s`.
    """

    max_pairs: int = 256
    max_body_bytes: int = 64 << 20
    max_held_bytes: int = 512 << 20
    max_waiting_pairs: int = 2048
    max_connections: int = 8192
    header_s: float = 10.0
    idle_s: float = 15.0
    body_s: float = 60.0
    answer_s: float = 60.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise UsageError(f"`{name}` must be more than 0: got {getattr(self, name)}")


@dataclass(frozen=True)
class ServiceConfig:
    """Where the service listens, who may ask, and how it decides.

    A `http_port` of 0 takes any free one. `api_keys` are the keys that clients must send, `no_auth`
    says that none is needed on an address that other machines reach. With `tls_cert` and
    `tls_key`, PEM files, it speaks https alone. With `fetch`, the URLs of a request are fetched
    within that policy; otherwise they are errors. `trust_anchors` are PEM certificates of trusted
    issuers of C2PA signatures.

    Raises UsageError for settings that contradict each other.
    """

    host: str = "127.0.0.1"
    http_port: int = 8000
    threshold: float = DEFAULT_THRESHOLD
    mode: Mode = Mode.BEST_GUESS
    api_keys: frozenset[str] = frozenset()
    no_auth: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    fetch: FetchPolicy | None = None
    trust_anchors: str = ""
    limits: ServiceLimits = field(default_factory=ServiceLimits)

    def __post_init__(self) -> None:
        if self.api_keys and self.no_auth:
            raise UsageError("`api_key_file` and `no_auth` exclude each other: give one of them")
        if not (self.api_keys or self.no_auth or is_loopback(self.host)):
            raise UsageError(
                f"`host` {self.host} can be reached from other machines: give `api_key_file`, or "
                "`no_auth` if everybody who reaches it may ask"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("`tls_cert` and `tls_key` belong together: give both")

    @property
    def scheme(self) -> str:
        """The scheme of the service's URLs."""
        return "http" if self.tls_cert is None else "https"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
