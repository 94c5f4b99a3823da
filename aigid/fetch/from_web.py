"""Images over http and https: the HTTP client's errors as errors of rows."""

from aigid.errors import StorageError
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, printable
from aigid.storage import WebSettings, download, http_errors

ERROR_CODES: dict[type[http_errors.HttpError], ErrorCode] = {
    http_errors.NotFoundError: ErrorCode.MISSING,
    http_errors.UnknownHostError: ErrorCode.MISSING,
    http_errors.RefusedError: ErrorCode.FORBIDDEN,
    http_errors.TooLargeError: ErrorCode.TOO_LARGE,
    http_errors.UnreachableError: ErrorCode.TIMEOUT,
    http_errors.NoRangesError: ErrorCode.UNDECODABLE,
}
"""The row's error code for each error of the HTTP client. ProxyFailedError is no row's."""

_SETTINGS = {
    http_errors.RefusalReason.PRIVATE_ADDRESS: "allow_private_addresses",
    http_errors.RefusalReason.OPT_OUT: "respect_opt_out",
}
"""The setting that decides on a refusal."""


class HostUnreachable(RowFailure):
    """A row's failure that says more about the host, or about the network, than about the image.

    `host` is its name, by which `CircuitBreaker` counts. `is_store` tells that it is a store.
    """

    def __init__(self, code: ErrorCode, detail: str, host: str, *, is_store: bool = False) -> None:
        super().__init__(code, detail)
        self.host, self.is_store = host, is_store


def fetch_url(
    url: str, limits: DecodeLimits, settings: WebSettings, *, allow_private_addresses: bool
) -> bytes:
    """Return the bytes of the image at a URL.

    Raises RowFailure: missing, forbidden, too_large, empty. Raises HostUnreachable, which is a
    RowFailure too: timeout, or missing where the host's name does not resolve. Raises StorageError
    where the proxy fails, so that other images would fail as well.
    """
    try:
        data = download(
            url, limits.max_bytes, allow_private=allow_private_addresses, settings=settings
        )
    except http_errors.ProxyFailedError as error:
        raise StorageError(f"{error}; then run the scan again to continue") from error
    except http_errors.HttpError as error:
        raise _row_failure(url, error) from error
    check_byte_limit(len(data), limits)
    return data


def _row_failure(url: str, error: http_errors.HttpError) -> RowFailure:
    code, detail = ERROR_CODES[type(error)], f"{printable(url)}: {error}"
    if isinstance(error, http_errors.UnreachableError):
        return HostUnreachable(code, detail, error.host)
    if isinstance(error, http_errors.RefusedError) and error.reason in _SETTINGS:
        detail += f" ({_SETTINGS[error.reason]})"
    return RowFailure(code, detail)
