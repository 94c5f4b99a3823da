"""The page about labels: its rules are the code's."""

import re
from pathlib import Path

import pytest

from aigid.training.labels.columns import GENERATOR_NAMES, LABEL_NAMES
from aigid.training.labels.words import Meaning, meaning_of

PAGE = (Path(__file__).parents[3] / "docs" / "labels.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("row", "names"), [("label", LABEL_NAMES), ("generator", GENERATOR_NAMES)])
def test_the_page_lists_the_usual_names_in_their_order(row: str, names: tuple[str, ...]) -> None:
    (cells,) = re.findall(rf"^\| {row} \| (.*) \| `--{row}-column` \|$", PAGE, re.MULTILINE)
    assert re.findall("`([^`]+)`", cells) == list(names)


def test_the_words_that_the_page_shows_mean_what_it_says() -> None:
    (real, ai) = re.findall(r"(?:real|AI-generated): ((?:`[^`]+`, )+)\.\.\.", PAGE)
    assert {meaning_of(word) for word in re.findall("`([^`]+)`", real)} == {Meaning.REAL}
    assert {meaning_of(word) for word in re.findall("`([^`]+)`", ai)} == {Meaning.AI}
