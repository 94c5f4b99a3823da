"""An HTTP client for files: pooled connections, three attempts, limits on size and time.

It raises the errors of `aigid.storage.http_errors`, and knows nothing of manifests or rows.
"""

import re
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urljoin

import urllib3
from urllib3 import exceptions
from urllib3.util import Timeout, Url, parse_url

from aigid.storage.connections import connections
from aigid.storage.host_slots import host_slots
from aigid.storage.http_errors import (
    HttpError,
    NoRangesError,
    NotFoundError,
    ProxyFailedError,
    RefusalReason,
    RefusedError,
    TooLargeError,
    UnknownHostError,
    UnreachableError,
)
from aigid.storage.proxies import Proxy, proxy_for
from aigid.storage.public_addresses import check_proxied_host, is_public_host
from aigid.storage.response_headers import opt_out_of, retry_after_s
from aigid.storage.web_settings import WebSettings, port_of

_ATTEMPTS = 3
# The pause doubles after each attempt.
_FIRST_PAUSE_S = 1.0
_MAX_REDIRECTS = 5
# The body of a redirect is read so that the connection can be used again, unless it is larger.
_MAX_REDIRECT_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 16
_HEADERS = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
_DENIED_STATUSES = (401, 402, 403, 407, 451)
# The client was too slow or too early, too many requests, and the server's own failures (from 520
# on those of Cloudflare): another attempt may succeed.
_TEMPORARY_STATUSES = (408, 425, 429, 500, 502, 503, 504, *range(520, 525))
_NO_RANGES = (
    "the server does not send parts of files (HTTP ranges): download the file, and scan the copy"
)
_REFUSED_BY_PROXY = "answers 407: check the user and the password in its URL"
_NOT_A_URL = "not a URL that can be fetched"


@dataclass(frozen=True)
class FileRange:
    """A part of a file on a web server.

    `size` is the whole file's, in bytes. `modified` is the Last-Modified header, None without one.
    """

    data: bytes
    size: int
    modified: str | None


def download(
    url: str, max_bytes: int, *, allow_private: bool, settings: WebSettings = WebSettings()
) -> bytes:
    """Return the body at a URL. Up to 5 redirects are followed, under the same rules.

    Unless `allow_private`, only public addresses are connected to. Raises NotFoundError,
    RefusedError, TooLargeError for more than `max_bytes`, UnreachableError after three attempts or
    at the deadline, and ProxyFailedError.
    """
    return _Fetch(settings, max_bytes, public_only=not allow_private).run(url)[0]


def download_range(url: str, start: int, stop: int) -> FileRange:
    """Return the bytes from `start` up to, and without, `stop` of the file at a URL.

    The address of the server may be private, since the user names it. A public server may not
    redirect to a private one. Raises what `download` raises, and NoRangesError.
    """
    wanted = {"Range": f"bytes={start}-{stop - 1}"}
    public_only = is_public_host(_parse(url).host or "")
    fetch = _Fetch(WebSettings(), stop - start, public_only=public_only, wanted=wanted)
    data, headers = fetch.run(url)
    sent = re.fullmatch(rf"bytes {start}-\d+/(\d+)", headers.get("Content-Range", ""))
    if sent is None:
        raise NoRangesError(_NO_RANGES)
    return FileRange(data, int(sent[1]), headers.get("Last-Modified"))


class _Fetch:
    """One fetch. All its attempts, pauses, redirects and reads end at one deadline.

    The deadline does not run while the fetch waits for its turn at a host: the answer must not
    depend on how many others wait there.
    """

    def __init__(
        self,
        settings: WebSettings,
        max_bytes: int,
        *,
        public_only: bool,
        wanted: Mapping[str, str] = {},
    ) -> None:
        self._settings, self._max_bytes = settings, max_bytes
        self._public_only, self._wanted = public_only, wanted
        self._deadline = time.monotonic() + settings.deadline_s

    def run(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        """Return the body and the headers; make another attempt where the host is unreachable."""
        for attempt in range(_ATTEMPTS):
            try:
                return self._follow(_parse(url))
            except UnknownHostError:
                raise
            except (UnreachableError, ProxyFailedError) as error:
                if attempt == _ATTEMPTS - 1:
                    raise
                self._pause(_FIRST_PAUSE_S * 2**attempt, error)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, least_s: float, error: HttpError) -> None:
        """Wait before another attempt; raise the error where there is no time for one."""
        wait_s = getattr(error, "wait_s", None)
        if max(least_s, wait_s or 0) > self._deadline - time.monotonic():
            if isinstance(error, UnreachableError) and wait_s:
                message = f"{error}, and asks to wait {wait_s:g} s"
                raise UnreachableError(message, error.host) from error
            raise error
        time.sleep(max(least_s, wait_s or 0))

    def _follow(self, url: Url) -> tuple[bytes, Mapping[str, str]]:
        """Make a request, and those that its redirects lead to."""
        for _ in range(_MAX_REDIRECTS + 1):
            place = f"{url.host}:{port_of(url)}"
            with host_slots(self._settings.requests_per_host).hold(place) as waited_s:
                self._deadline += waited_s
                answer = self._request(url)
            if not isinstance(answer, str):
                return answer
            url = _parse(_joined(url, answer))
        raise NotFoundError("too many redirects")

    def _request(self, url: Url) -> tuple[bytes, Mapping[str, str]] | str:
        """Return the body and the headers of one GET request, or where it redirects to."""
        host, proxy = url.host or "", proxy_for(url)
        if proxy is not None and self._public_only:
            check_proxied_host(host)
        try:
            response = self._send(url, proxy)
            try:
                answer = self._read(response, url.host or "", proxy)
            except BaseException:
                # The connection cannot be used again while a part of the body is unread.
                response.close()
                raise
            response.release_conn()
            return answer
        except (exceptions.HTTPError, ValueError, OSError) as error:
            if time.monotonic() >= self._deadline and not isinstance(error, exceptions.SSLError):
                raise self._too_late(host) from error
            raise _http_error(error, host, proxy) from error

    def _send(self, url: Url, proxy: Proxy | None) -> urllib3.BaseHTTPResponse:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise self._too_late(url.host or "")
        return connections(public_only=self._public_only, proxy=proxy).urlopen(
            "GET",
            url.url,
            redirect=False,
            headers=_HEADERS | self._settings.headers_for(url) | dict(self._wanted),
            retries=False,
            timeout=Timeout(total=left_s),
            preload_content=False,
        )

    def _read(
        self, response: urllib3.BaseHTTPResponse, host: str, proxy: Proxy | None
    ) -> tuple[bytes, Mapping[str, str]] | str:
        target = response.get_redirect_location()
        if target:
            self._drain(response, host)
            return target
        if proxy is not None and response.status == 407:
            raise _proxy_failure(proxy, _REFUSED_BY_PROXY)
        _check_status(response, host)
        if self._settings.respect_opt_out:
            tags = response.headers.getlist("X-Robots-Tag")
            rule = opt_out_of(tags, self._settings.user_agent)
            if rule is not None:
                message = f"its owner opts out of use by AI (X-Robots-Tag: {rule})"
                raise RefusedError(message, RefusalReason.OPT_OUT)
        if "Range" in self._wanted and response.status != 206:
            raise NoRangesError(_NO_RANGES)
        return self._read_body(response, self._max_bytes, host), response.headers

    def _drain(self, response: urllib3.BaseHTTPResponse, host: str) -> None:
        try:
            self._read_body(response, _MAX_REDIRECT_BYTES, host)
        except TooLargeError:
            response.close()

    def _read_body(self, response: urllib3.BaseHTTPResponse, max_bytes: int, host: str) -> bytes:
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) > max_bytes:
            raise TooLargeError(f"{length} bytes; the limit is {max_bytes}")
        data = bytearray()
        # `read1` returns what has arrived, and `read` would wait for the whole of it: a body that
        # is too large would be held in memory.
        while chunk := response.read1(_CHUNK_BYTES):
            data += chunk
            if len(data) > max_bytes:
                raise TooLargeError(f"larger than the limit of {max_bytes} bytes")
            if time.monotonic() > self._deadline:
                raise self._too_late(host)
        return bytes(data)

    def _too_late(self, host: str) -> UnreachableError:
        return UnreachableError(f"not complete after {self._settings.deadline_s:g} s", host)


def _parse(url: str) -> Url:
    """Return the parts of a URL: the only reading of it, by which it is checked and requested.

    The user and password are left out, as is the fragment. Raises NotFoundError for other schemes.
    """
    try:
        parts = parse_url(url)
    except exceptions.LocationValueError as error:
        raise NotFoundError(_NOT_A_URL) from error
    if parts.scheme not in ("http", "https") or not parts.host or parts.port == 0:
        raise NotFoundError(_NOT_A_URL)
    return parts._replace(auth=None, fragment=None)


def _joined(url: Url, target: str) -> str:
    """Return where a redirect from a URL leads. Servers send names in UTF-8, or in Latin-1."""
    with suppress(UnicodeError):
        target = target.encode("latin-1").decode()
    try:
        return urljoin(url.url, target)
    except ValueError as error:
        raise NotFoundError(_NOT_A_URL) from error


def _check_status(response: urllib3.BaseHTTPResponse, host: str) -> None:
    status = response.status
    if status in (200, 206):
        return
    message = f"the server answers {status}"
    if status in _TEMPORARY_STATUSES:
        wait_s = retry_after_s(response.headers.get("Retry-After"))
        raise UnreachableError(message, host, wait_s)
    if status in _DENIED_STATUSES:
        raise RefusedError(message, RefusalReason.STATUS)
    raise NotFoundError(message)


def _http_error(error: Exception, host: str, proxy: Proxy | None) -> HttpError:
    """Return the error of this client for one of urllib3's or of the socket."""
    if isinstance(error, exceptions.ProxyError) and proxy is not None:
        return _proxy_error(error, host, proxy)
    if isinstance(error, exceptions.NameResolutionError):
        return UnknownHostError("no such host", host)
    if isinstance(error, exceptions.SSLError | ssl.SSLError):
        return RefusedError(
            "the server's certificate is not trusted, or the server does not speak TLS",
            RefusalReason.TLS,
        )
    if isinstance(error, exceptions.NewConnectionError):
        return UnreachableError("no connection", host)
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return UnreachableError("no answer in time", host)
    if isinstance(error, ValueError):
        return NotFoundError(_NOT_A_URL)
    return UnreachableError("the connection was cut", host)


def _proxy_error(error: exceptions.ProxyError, host: str, proxy: Proxy) -> HttpError:
    """Return the error for a proxy that fails, or that fails to connect to the host."""
    answer = re.search(r"Tunnel connection failed: (\d+)", str(error.original_error))
    if answer is None:
        return _proxy_failure(proxy, "cannot be reached: check it")
    status = int(answer[1])
    if status == 407:
        return _proxy_failure(proxy, _REFUSED_BY_PROXY)
    message = f"the proxy answers {status}"
    if status in _DENIED_STATUSES:
        return RefusedError(message, RefusalReason.STATUS)
    return UnreachableError(message, host)


def _proxy_failure(proxy: Proxy, reason: str) -> ProxyFailedError:
    return ProxyFailedError(f"the proxy {proxy.url} ({proxy.variable}) {reason}")
