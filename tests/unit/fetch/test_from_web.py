"""Images over http and https: each error of the HTTP client becomes the right error of a row."""

from collections.abc import Iterator

import pytest
from support.web_server import Answer, WebServer, reset_client, web_server

from aigid.fetch import FetchPolicy, ImageReference, fetch_image, from_web, image_root_of
from aigid.fetch.from_web import HostUnreachable, fetch_url
from aigid.pixels import DecodeLimits
from aigid.records import ErrorCode, RowError, RowFailure
from aigid.storage import WebSettings, http_errors

URL = "http://host.example/x.png"
LIMITS = DecodeLimits(max_bytes=100)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    reset_client(monkeypatch)
    with web_server() as server:
        yield server


def failure(url: str, *, allow_private_addresses: bool = True) -> RowFailure:
    with pytest.raises(RowFailure) as caught:
        fetch_url(url, LIMITS, WebSettings(), allow_private_addresses=allow_private_addresses)
    return caught.value


def all_errors(base: type[http_errors.HttpError]) -> Iterator[type[http_errors.HttpError]]:
    for error in base.__subclasses__():
        yield error
        yield from all_errors(error)


def test_every_error_of_the_client_has_a_code() -> None:
    every = set(all_errors(http_errors.HttpError))
    assert set(from_web.ERROR_CODES) == every - {http_errors.ProxyFailedError}


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (http_errors.NotFoundError("the server answers 404"), "missing", "the server answers 404"),
        (
            http_errors.RefusedError("the server answers 403", http_errors.RefusalReason.STATUS),
            "forbidden",
            "the server answers 403",
        ),
        (
            http_errors.RefusedError("not trusted", http_errors.RefusalReason.TLS),
            "forbidden",
            "not trusted",
        ),
        (
            http_errors.RefusedError("not public", http_errors.RefusalReason.PRIVATE_ADDRESS),
            "forbidden",
            "not public (allow_private_addresses)",
        ),
        (http_errors.TooLargeError("101 bytes"), "too_large", "101 bytes"),
        (http_errors.NoRangesError("no ranges"), "undecodable", "no ranges"),
        (http_errors.UnreachableError("no connection", "host.example"), "timeout", "no connection"),
        (http_errors.UnknownHostError("no such host", "host.example"), "missing", "no such host"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_of_the_client_becomes_the_row_s_error(
    error: http_errors.HttpError, code: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> bytes:
        raise error

    monkeypatch.setattr(from_web, "download", fail)
    found = failure(URL)
    assert found.error == RowError(ErrorCode(code), f"{URL}: {detail}")
    assert found.__cause__ is error
    unreachable = isinstance(error, http_errors.UnreachableError)
    assert isinstance(found, HostUnreachable) == unreachable
    assert getattr(found, "host", None) == ("host.example" if unreachable else None)


def test_an_image_is_fetched_and_its_size_checked(site: WebServer) -> None:
    url = site.serve("/x.png", Answer(b"x" * 100))
    assert fetch_url(url, LIMITS, WebSettings(), allow_private_addresses=True) == b"x" * 100
    assert failure(site.serve("/empty.png", Answer(b""))).error == RowError(
        ErrorCode.EMPTY, "zero bytes"
    )
    large = site.serve("/large.png", Answer(b"x" * 101))
    assert failure(large).error == RowError(
        ErrorCode.TOO_LARGE, f"{large}: 101 bytes; the limit is 100"
    )


def test_a_private_address_is_forbidden_and_the_setting_that_allows_it_is_named(
    site: WebServer,
) -> None:
    url = site.serve("/x.png", Answer(b"secret")).replace("localhost", "127.0.0.1")
    error = failure(url, allow_private_addresses=False).error
    assert error == RowError(
        ErrorCode.FORBIDDEN,
        f"{url}: the address of 127.0.0.1 is not public: 127.0.0.1 (allow_private_addresses)",
    )
    assert site.requests == []


def test_the_policy_decides_on_private_addresses(site: WebServer) -> None:
    reference = ImageReference(None, site.serve("/x.png", Answer(b"data")))
    assert fetch_image(reference, FetchPolicy(None, allow_private_addresses=True)) == b"data"
    with pytest.raises(RowFailure, match="forbidden: "):
        fetch_image(reference, FetchPolicy(None))


def fetch_beside(url: str, path: str, *, allow_private_addresses: bool = True) -> bytes:
    """Fetch an image by its path relative to the manifest at a URL."""
    policy = FetchPolicy(image_root_of([url]), allow_private_addresses=allow_private_addresses)
    return fetch_image(ImageReference(None, path), policy)


def test_the_policy_holds_for_images_relative_to_a_manifest_on_the_web(site: WebServer) -> None:
    manifest = site.serve("/data/m.parquet", Answer(b"m", ranges=True))
    site.serve("/data/x.png", Answer(b"secret"))
    with pytest.raises(RowFailure, match="is not public: .* \\(allow_private_addresses\\)"):
        fetch_beside(manifest, "x.png", allow_private_addresses=False)
    assert "/data/x.png" not in site.requests
    assert fetch_beside(manifest, "x.png") == b"secret"


def test_the_query_of_a_manifest_is_not_sent_on_to_its_images(site: WebServer) -> None:
    site.serve("/data/m.parquet?signature=secret", Answer(b"m", ranges=True))
    site.serve("/data/a%20b%23.png", Answer(b"data"))
    manifest = f"{site.address}/data/m.parquet?signature=secret"
    assert fetch_beside(manifest, "./a b#.png") == b"data"
    with pytest.raises(RowFailure) as caught:
        fetch_beside(manifest, "../x.png")
    assert caught.value.error.code is ErrorCode.FORBIDDEN
    assert "secret" not in caught.value.error.detail
    assert not any("secret" in path for path in site.requests if "m.parquet" not in path)


def test_the_detail_is_one_line_without_control_characters(site: WebServer) -> None:
    assert failure("http://host\nname/\x1b[31mx.png").error.detail.isprintable()
