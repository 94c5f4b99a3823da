"""Images over http and https: the HTTP client's errors as errors of rows."""

from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, printable
from aigid.storage import download, http_errors

ERROR_CODES: dict[type[http_errors.HttpError], ErrorCode] = {
    http_errors.NotFoundError: ErrorCode.MISSING,
    http_errors.UnknownHostError: ErrorCode.MISSING,
    http_errors.RefusedError: ErrorCode.FORBIDDEN,
    http_errors.TooLargeError: ErrorCode.TOO_LARGE,
    http_errors.UnreachableError: ErrorCode.TIMEOUT,
    http_errors.NoRangesError: ErrorCode.UNDECODABLE,
}
"""The row's error code for each error of the HTTP client."""


class HostUnreachable(RowFailure):
    """A row's failure that says more about the host, or about the network, than about the image.

    `host` is its name, by which `CircuitBreaker` counts.
    """

    def __init__(self, code: ErrorCode, detail: str, host: str) -> None:
        super().__init__(code, detail)
        self.host = host


def fetch_url(url: str, limits: DecodeLimits, *, allow_private_addresses: bool) -> bytes:
    """Return the bytes of the image at a URL.

    Raises RowFailure: missing, forbidden, too_large, empty. Raises HostUnreachable, which is a
    RowFailure too: timeout, or missing where the host's name does not resolve.
    """
    try:
        data = download(url, limits.max_bytes, allow_private=allow_private_addresses)
    except http_errors.HttpError as error:
        raise _row_failure(url, error) from error
    check_byte_limit(len(data), limits)
    return data


def _row_failure(url: str, error: http_errors.HttpError) -> RowFailure:
    code, detail = ERROR_CODES[type(error)], f"{printable(url)}: {error}"
    if isinstance(error, http_errors.UnreachableError):
        return HostUnreachable(code, detail, error.host)
    private = http_errors.RefusalReason.PRIVATE_ADDRESS
    if isinstance(error, http_errors.RefusedError) and error.reason is private:
        detail += " (allow_private_addresses)"
    return RowFailure(code, detail)
