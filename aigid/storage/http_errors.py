"""The errors of the HTTP client.

HttpError
├── NotFoundError
├── RefusedError
├── TooLargeError
├── NoRangesError
├── ProxyFailedError
└── UnreachableError
    └── UnknownHostError
"""

from enum import StrEnum


class HttpError(Exception):
    """Base of the HTTP client's errors. Its text is one line for people, without the URL."""


class NotFoundError(HttpError):
    """The server has no such file, or the text is not a URL that can be fetched."""


class RefusalReason(StrEnum):
    """Why a request was refused, by the server or by this client."""

    STATUS = "status"
    PRIVATE_ADDRESS = "private address"
    TLS = "tls"
    OPT_OUT = "opt-out"


class RefusedError(HttpError):
    """The server denies access, or the client will not talk to it; `reason` says which."""

    def __init__(self, message: str, reason: RefusalReason) -> None:
        super().__init__(message)
        self.reason = reason


class TooLargeError(HttpError):
    """The body is larger than the caller's limit."""


class NoRangesError(HttpError):
    """The server cannot send a part of a file."""


class ProxyFailedError(HttpError):
    """The proxy that the environment names cannot be reached, or refuses our credentials.

    Every request through it would fail as well.
    """


class UnreachableError(HttpError):
    """The host gave no usable response: no connection, a timeout, or a failure of its own (5xx).

    `host` is its name. When many hosts in a row are unreachable, the network is probably down.
    `wait_s` is how long the host asks to wait before another attempt, None where it does not say.
    """

    def __init__(self, message: str, host: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.host = host
        self.wait_s = wait_s


class UnknownHostError(UnreachableError):
    """The host's name does not resolve. The client does not try again."""
