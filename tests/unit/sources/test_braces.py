"""Paths in braces."""

from pathlib import Path

import pytest

from aigid.errors import UsageError
from aigid.sources import expand_braces


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{8..11}.tar", ["s-8.tar", "s-9.tar", "s-10.tar", "s-11.tar"]),
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{train,test}/{a,b}.csv", ["train/a.csv", "train/b.csv", "test/a.csv", "test/b.csv"]),
        (
            "https://127.0.0.1:9/{0..1}.tar",
            ["https://127.0.0.1:9/0.tar", "https://127.0.0.1:9/1.tar"],
        ),
        ("a{,.old}.csv", ["a.csv", "a.old.csv"]),
        ("{a}.csv", ["{a}.csv"]),
        ("{}.csv", ["{}.csv"]),
        ("{a..b}.csv", ["{a..b}.csv"]),
        ("a}b{.csv", ["a}b{.csv"]),
        ("*.csv", ["*.csv"]),
    ],
)
def test_braces_stand_for_several_paths(here: Path, path: str, expected: list[str]) -> None:
    assert expand_braces(["first", path, "last"]) == ("first", *expected, "last")


def test_a_file_whose_name_has_braces_stands_for_itself(here: Path) -> None:
    Path("{a,b}.csv").touch()
    assert expand_braces(["{a,b}.csv", "{c,d}.csv"]) == ("{a,b}.csv", "c.csv", "d.csv")


def test_very_many_paths_are_refused() -> None:
    with pytest.raises(UsageError, match="more than 1,000,000 paths"):
        expand_braces(["{0..999999999999}.tar"])
