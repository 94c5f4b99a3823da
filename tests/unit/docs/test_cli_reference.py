"""docs/cli.md: up to date with --help, whatever the terminal, and complete."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest
from support.command_line import command_of
from support.manifests import REPOSITORY

from aigid.cli.errors import EXIT_STATUSES
from aigid.cli.main import COMMANDS

DOCS = REPOSITORY.parent / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> str:
    return Path(DOCS / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", ["40", "300"])
def test_the_page_is_what_the_generator_writes_on_any_terminal(
    columns: str, generator: ModuleType, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("AIGID_SCAN_THREADS", "3")
    assert page == generator.render(), "run `make docs`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section_with_each_of_its_options_and_variables(
    name: str, page: str
) -> None:
    section = page.partition(f"\n## aigid {name}\n")[2].partition("\n## ")[0]
    for option in command_of(name).params:
        if isinstance(option, click.Option):
            assert all(flag in section for flag in option.opts), option.opts
            variable = f"AIGID_{name}_{option.name}".replace("-", "_").upper()
            assert f"`{variable}`" in section


def test_every_exit_status_is_on_the_page(page: str) -> None:
    found = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert [int(status) for status in found] == list(EXIT_STATUSES) == [0, 1, 2, 3, 130]


def test_no_line_is_wider_than_the_other_pages(page: str) -> None:
    assert max(map(len, page.splitlines())) <= 100
