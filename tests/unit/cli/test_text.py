"""Text that is safe to print."""

import pytest

from aigid.cli.text import escaped


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
