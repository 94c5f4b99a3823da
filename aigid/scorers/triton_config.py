"""The settings of scoring on Triton servers. Needs none of Triton's packages."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aigid.errors import UsageError

URI_SCHEME = "triton://"

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\],]+):(\d{1,5})")


@dataclass(frozen=True)
class TlsConfig:
    """The PEM files of a TLS connection. Raises UsageError for files that are missing.

    `root_certificates` are the authorities to trust, by default the system's. `certificate_chain`
    and `private_key` identify this client to servers that ask for it.
    """

    root_certificates: Path | None = None
    certificate_chain: Path | None = None
    private_key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise UsageError("`certificate_chain` and `private_key` belong together: give both")
        for name in ("root_certificates", "certificate_chain", "private_key"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise UsageError(f"`{name}` {path}: no such file")


@dataclass(frozen=True)
class TritonConfig:
    """The servers to score on and how to use them. Raises UsageError for values out of range.

    `addresses` are the gRPC addresses of the servers, HOST:PORT each. At most `in_flight` requests
    are with one server at a time. A request without an answer after `deadline_s` seconds is sent
    again, to another server if there is one. Scoring ends when no server has answered for
    `patience_s` seconds.
    """

    addresses: tuple[str, ...]
    in_flight: int = 8
    deadline_s: float = 120.0
    patience_s: float = 120.0
    tls: TlsConfig | None = None

    def __post_init__(self) -> None:
        if not self.addresses:
            raise UsageError("`addresses` is empty: give HOST:PORT, as in localhost:8001")
        for address in self.addresses:
            match = _ADDRESS.fullmatch(address)
            if not match or not 0 < int(match[2]) < 65536:
                raise UsageError(
                    f"`addresses`: {address!r} is not an address: give the HOST:PORT of Triton's "
                    "gRPC, as in localhost:8001"
                )
        if len(set(self.addresses)) < len(self.addresses):
            raise UsageError(f"`addresses` names a server twice: {','.join(self.addresses)}")
        for name in ("in_flight", "deadline_s", "patience_s"):
            value = getattr(self, name)
            if not value > 0:
                raise UsageError(f"`{name}` must be more than 0: got {value}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the settings for "HOST:PORT,HOST:PORT,...", which "triton://" may precede."""
        addresses = (address.strip() for address in text.removeprefix(URI_SCHEME).split(","))
        return cls(tuple(address for address in addresses if address))
