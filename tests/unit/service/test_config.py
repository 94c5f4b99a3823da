"""Settings of the service that contradict each other, and files of keys."""

from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers

from aigid.errors import UsageError
from aigid.service import ServiceConfig, ServiceLimits, read_api_keys
from aigid.service.api_keys import has_key
from aigid.service.config import is_loopback

KEY = "0123456789abcdef"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"host": "0.0.0.0"}, "can be reached from other machines: give `api_key_file`"),
        ({"host": "::"}, "can be reached from other machines"),
        ({"host": "example.org"}, "can be reached from other machines"),
        ({"api_keys": frozenset({KEY}), "no_auth": True}, "exclude each other"),
        ({"tls_cert": Path("a.pem")}, "belong together"),
        ({"tls_key": Path("a.pem")}, "belong together"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        ServiceConfig(**settings)


@pytest.mark.parametrize("settings", [{"api_keys": frozenset({KEY})}, {"no_auth": True}])
def test_other_machines_may_ask_with_keys_or_a_word(settings: dict[str, Any]) -> None:
    assert ServiceConfig(host="0.0.0.0", **settings).scheme == "http"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


def test_limits_are_positive() -> None:
    with pytest.raises(UsageError, match="`max_pairs` must be more than 0"):
        ServiceLimits(max_pairs=0)


def test_keys_are_read_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"# for the gateway\n\n  {KEY}  \n{KEY}-other\n")
    assert read_api_keys(tmp_path / "keys") == {KEY, f"{KEY}-other"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no key"),
        (b"# nothing\n", "has no key"),
        (b"short\n", "line 1: a key has 16 characters or more"),
        (f"{KEY}\n{KEY} {KEY}\n".encode(), "line 2"),
        ("schlüssel-schlüssel\n".encode(), "line 1"),
        (b"\xff\xfe", "cannot be read as text"),
    ],
)
def test_bad_files_of_keys_are_refused_without_showing_a_key(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(UsageError, match=reason) as caught:
        read_api_keys(tmp_path / "keys")
    assert KEY not in str(caught.value)


def test_a_file_of_keys_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`api_key_file`"):
        read_api_keys(tmp_path / "none")


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        ({"authorization": f"Bearer {KEY}"}, True),
        ({"authorization": f"bearer  {KEY} "}, True),
        ({"x-api-key": KEY}, True),
        ({}, False),
        ({"authorization": KEY}, False),
        ({"authorization": f"Basic {KEY}"}, False),
        ({"authorization": f"Bearer {KEY}x"}, False),
        ({"x-api-key": ""}, False),
        ({"x-api-key": "schlüssel"}, False),
    ],
)
def test_keys_in_headers(headers: dict[str, str], is_known: bool) -> None:
    assert has_key(Headers(headers), {KEY, "another-key-of-24-chars."}) == is_known
