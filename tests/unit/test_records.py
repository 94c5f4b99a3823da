"""Untrusted text in messages and results: short, printable, and without secrets."""

import pytest

from aigid.records import escaped, printable, without_secrets

REFERENCES = {
    "cats/1.png": "cats/1.png",
    "what?/no #1.png": "what?/no #1.png",
    "https://host/1.png": "https://host/1.png",
    "https://host/1.png?sig=s3cr3t": "https://host/1.png?...",
    "https://host/1.png#s3cr3t": "https://host/1.png#...",
    "https://host?s3cr3t": "https://host?...",
    "https://me:s3cr3t@host/1@2.png": "https://host/1@2.png",
    "https://s3cr3t@host": "https://host",
    "https://me:s3?cr3t@host/1.png": "https://host/1.png",
    "HTTPS://me:s3cr@3t@host:443/1.png?s3cr3t": "HTTPS://host:443/1.png?...",
    "s3://key:s3cr3t@bucket/1.png": "s3://bucket/1.png",
    "abfss://container@account.dfs.core.windows.net/1.png": (
        "abfss://container@account.dfs.core.windows.net/1.png"
    ),
    "abfs://me:s3cr3t@account/1.png": "abfs://account/1.png",
    "://": "://",
    "": "",
}


@pytest.mark.parametrize("text", REFERENCES)
def test_a_reference_keeps_its_place_and_loses_its_secrets(text: str) -> None:
    assert without_secrets(text) == REFERENCES[text]
    assert printable(text) == REFERENCES[text]


def test_a_long_text_is_cut() -> None:
    assert printable("x" * 1000) == "x" * 200 + "..."


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b[31m\n.png") == r"'a\x1b[31m\n.png'"


@pytest.mark.parametrize("text", ["", "plain text", "naïve 猫 \U0001f431", "a\\n b"])
def test_text_that_can_be_printed_stays_as_it_is(text: str) -> None:
    assert escaped(text) is text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\udce9", "caf\\udce9"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u00a0b", "a\\xa0b"),
    ],
)
def test_what_controls_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown
    assert escaped(text).isprintable()
