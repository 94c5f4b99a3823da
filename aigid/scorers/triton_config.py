"""The settings of scoring through Triton servers, as one frozen value; free of Triton's packages."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aigid.errors import UsageError

URI_SCHEME = "triton://"

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\],]+):(\d{1,5})")


@dataclass(frozen=True)
class TlsConfig:
    """Files in PEM: whom to trust (the system's authorities by default), and who we are, where servers ask for it."""

    root_certificates: Path | None = None
    certificate_chain: Path | None = None
    private_key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise UsageError("--triton-cert and --triton-key belong together: give both or none")
        for option, path in (
            ("ca", self.root_certificates),
            ("cert", self.certificate_chain),
            ("key", self.private_key),
        ):
            if path is not None and not path.is_file():
                raise UsageError(f"--triton-{option} {path}: no such file")


@dataclass(frozen=True)
class TritonConfig:
    """Which servers, by their gRPC addresses (HOST:PORT), and how they are used. Raises UsageError for what cannot be.

    `in_flight` requests are with one server at a time. One that is not answered within `deadline_s` seconds is asked
    again, of another server if there is one. When no server answers for `patience_s` seconds, scoring ends.
    """

    addresses: tuple[str, ...]
    in_flight: int = 8
    deadline_s: float = 120.0
    patience_s: float = 120.0
    tls: TlsConfig | None = None

    def __post_init__(self) -> None:
        if not self.addresses:
            raise UsageError("--triton: no address given: give HOST:PORT, as in localhost:8001")
        for address in self.addresses:
            match = _ADDRESS.fullmatch(address)
            if not match or not 0 < int(match[2]) < 65536:
                raise UsageError(
                    f"--triton: {address!r} is no address: give the HOST:PORT of Triton's gRPC, as in localhost:8001"
                )
        if len(set(self.addresses)) < len(self.addresses):
            raise UsageError(f"--triton: an address is there twice: {','.join(self.addresses)}")
        for name, option in (
            ("in_flight", "in-flight"),
            ("deadline_s", "deadline"),
            ("patience_s", "patience"),
        ):
            if not getattr(self, name) > 0:
                raise UsageError(
                    f"--triton-{option} must be more than 0: got {getattr(self, name)}"
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The servers of `HOST:PORT,HOST:PORT,...`, with or without `triton://` before it."""
        return cls(
            tuple(
                address.strip()
                for address in text.removeprefix(URI_SCHEME).split(",")
                if address.strip()
            )
        )
