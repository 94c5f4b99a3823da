"""Addresses and settings of servers: what is understood, and what is refused and how."""

import re
from pathlib import Path
from typing import Any

import pytest

from aigid.errors import UsageError
from aigid.scorers.triton_config import TlsConfig, TritonConfig


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
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(
        UsageError, match=f"--triton: {re.escape(repr(text))} is no address: give the HOST:PORT"
    ):
        TritonConfig.parse(text)


@pytest.mark.parametrize("text", ["", ",", "triton://"])
def test_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--triton: no address given"):
        TritonConfig.parse(text)


def test_an_address_that_is_there_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="an address is there twice: a:1,b:1,a:1"):
        TritonConfig.parse("a:1,b:1,a:1")


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"in_flight": 0}, "in-flight"),
        ({"deadline_s": 0}, "deadline"),
        ({"patience_s": -1}, "patience"),
    ],
)
def test_settings_out_of_range_are_refused_by_their_option(
    settings: dict[str, Any], option: str
) -> None:
    with pytest.raises(UsageError, match=f"--triton-{option} must be more than 0: got"):
        TritonConfig(("a:1",), **settings)


def test_tls_files_are_looked_for_and_belong_together(tmp_path: Path) -> None:
    there = tmp_path / "there.pem"
    there.write_text("")
    assert TlsConfig(there, there, there).root_certificates == there
    with pytest.raises(UsageError, match=r"--triton-ca .*missing\.pem: no such file"):
        TlsConfig(tmp_path / "missing.pem")
    for files in ((None, there, None), (None, None, there)):
        with pytest.raises(UsageError, match="--triton-cert and --triton-key belong together"):
            TlsConfig(*files)
