"""The types of option values."""

import click
import pytest

from aigid.cli.option_types import (
    ERROR_CODES,
    FRACTION,
    MEMORY,
    POSITIVE_INT,
    POSITIVE_NUMBER,
)
from aigid.records import ErrorCode


@pytest.mark.parametrize(
    ("text", "gib"),
    [
        ("4", 4.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("4GiB", 4.0),
        ("4 gib", 4.0),
        ("512MiB", 0.5),
        ("4GB", 4e9 / 2**30),
        ("1.5TiB", 1536.0),
        ("1048576KiB", 1.0),
    ],
)
def test_memory_is_gib_or_has_a_unit(text: str, gib: float) -> None:
    assert MEMORY.convert(text, None, None) == pytest.approx(gib, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", "GiB", "four", "-4", "4 apples", "4GiBs", "1e3", "nan", "inf", "4,5", "４", "4B"]
)
def test_what_is_no_amount_of_memory_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"as in 4GiB, 4GB or 512MiB"):
        MEMORY.convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "0GiB", "9" * 400])
def test_an_amount_of_memory_is_above_0_and_finite(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"not in the range x>0|not a finite number"):
        MEMORY.convert(text, None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400"])
def test_numbers_are_finite(text: str) -> None:
    for number in (FRACTION, POSITIVE_NUMBER):
        with pytest.raises(click.BadParameter):
            number.convert(text, None, None)


def test_values_in_range_pass() -> None:
    assert [FRACTION.convert(text, None, None) for text in ("0", "1", "0.25")] == [0, 1, 0.25]
    assert POSITIVE_INT.convert("12", None, None) == 12
    assert POSITIVE_NUMBER.convert("1e-3", None, None) == 0.001


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "", "one"])
def test_a_positive_int_is_a_whole_number_from_1(text: str) -> None:
    with pytest.raises(click.BadParameter):
        POSITIVE_INT.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("timeout", ("timeout",)),
        ("missing, empty", ("missing", "empty")),
        ("all", tuple(ErrorCode)),
    ],
)
def test_error_codes_have_commas_between_them(text: str, codes: tuple[str, ...]) -> None:
    assert ERROR_CODES.convert(text, None, None) == codes


@pytest.mark.parametrize("text", ["", "gone", "timeout missing", "timeout,", "photos/", "TIMEOUT"])
def test_what_is_no_error_code_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(click.BadParameter, match="give empty, missing, forbidden, timeout"):
        ERROR_CODES.convert(text, None, None)
