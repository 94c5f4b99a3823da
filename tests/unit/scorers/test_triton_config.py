"""Addresses and settings of servers: what is accepted, and what is refused with which message."""

import re
from pathlib import Path
from typing import Any

import pytest

from aigid.errors import UsageError
from aigid.scorers import TlsConfig, TritonConfig


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("localhost:8001", ("localhost:8001",)),
        ("triton://localhost:8001", ("localhost:8001",)),
        ("a:8001,b.example.org:9001", ("a:8001", "b.example.org:9001")),
        (" a:8001 , 10.0.0.7:8001,", ("a:8001", "10.0.0.7:8001")),
        ("[::1]:8001", ("[::1]:8001",)),
    ],
)
def test_addresses(text: str, addresses: tuple[str, ...]) -> None:
    assert TritonConfig.parse(text).addresses == addresses


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "localhost:",
        ":8001",
        "a:0",
        "a:65536",
        "http://a:8001",
        "a:8001/v2",
        "::1:8001",
        "a b:1",
    ],
)
def test_text_that_is_not_an_address_is_refused(text: str) -> None:
    message = f"`addresses`: {text!r} is not an address: give the HOST:PORT of Triton's gRPC"
    with pytest.raises(UsageError, match=re.escape(message)):
        TritonConfig.parse(text)


@pytest.mark.parametrize("text", ["", ",", "triton://"])
def test_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="`addresses` is empty: give HOST:PORT"):
        TritonConfig.parse(text)


def test_an_address_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="`addresses` names a server twice: a:1,b:1,a:1"):
        TritonConfig.parse("a:1,b:1,a:1")


@pytest.mark.parametrize("settings", [{"in_flight": 0}, {"deadline_s": 0}, {"patience_s": -1}])
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(UsageError, match=f"`{name}` must be more than 0: got {value}"):
        TritonConfig(("a:1",), **settings)


def test_tls_files_must_exist_and_belong_together(tmp_path: Path) -> None:
    there = tmp_path / "there.pem"
    there.write_text("")
    assert TlsConfig(there, there, there).root_certificates == there
    with pytest.raises(UsageError, match=r"`root_certificates` .*missing\.pem: no such file"):
        TlsConfig(tmp_path / "missing.pem")
    for files in ((None, there, None), (None, None, there)):
        with pytest.raises(UsageError, match="`certificate_chain` and `private_key` belong"):
            TlsConfig(*files)
