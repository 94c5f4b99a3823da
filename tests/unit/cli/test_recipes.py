"""--recipe: the defaults of the library's recipes, which options given beside it override."""

import re
from typing import Any

import pytest
from support.command_line import command_of, invoke
from support.manifests import REPOSITORY

from aigid.cli.main import main
from aigid.cli.train_options import RECIPES, run_config

WORDS = ("m.parquet", "--validation", "v.parquet", "--out", "run")
PAGE = REPOSITORY.parent / "docs" / "train.md"


def options_of(*words: str, command: str = "train") -> dict[str, Any]:
    """Return the values of a command's options; main.make_context gives it its variables."""
    with main.make_context("aigid", [command]) as group:
        arguments = [*WORDS, *words]
        return command_of(command).make_context(command, arguments, parent=group).params


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_library_s(name: str) -> None:
    from aigid.training import recipes

    options = options_of("--recipe", name)
    del options["resume"]
    config = run_config(options.pop("train_manifests"), options)
    assert (config.training, config.resizing) == (
        recipes.RECIPES[name].training,
        recipes.RECIPES[name].resizing,
    )
    assert RECIPES.keys() == recipes.RECIPES.keys()


def test_without_a_recipe_the_defaults_are_the_paper_s() -> None:
    assert options_of() == options_of("--recipe", "paper")


def test_options_beside_a_recipe_override_it_wherever_they_stand() -> None:
    plain = options_of("--recipe", "recommended")
    for words in (
        ("--recipe", "recommended", "--schedule", "constant"),
        ("--schedule", "constant", "--recipe", "recommended"),
    ):
        assert options_of(*words) == {**plain, "schedule": "constant"}
    # A value that is the paper's default overrides too.
    assert options_of("--recipe", "recommended", "--oversample-real", "1") == {
        **plain,
        "oversample_real": 1,
    }


def test_variables_choose_a_recipe_and_override_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGID_TRAIN_RECIPE", "recommended")
    assert options_of() == options_of("--recipe", "recommended")
    monkeypatch.setenv("AIGID_TRAIN_SELECT_BY", "binary_f1_a")
    found = options_of()
    assert (found["select_by"], found["schedule"]) == ("binary_f1_a", "one_cycle")
    assert options_of("--recipe", "paper")["schedule"] == "linear"


@pytest.mark.parametrize("command", ["train", "ablation"])
def test_help_after_a_recipe_shows_its_defaults(command: str) -> None:
    def shown(*words: str) -> list[str]:
        text = " ".join(invoke(command, *words, "--help").output.split())
        return re.findall(r"\[default: (linear|one_cycle|binary_f1_a|macro_f1|native_crop)\]", text)

    assert shown() == ["linear", "binary_f1_a"]
    assert shown("--recipe", "recommended") == ["native_crop", "one_cycle", "macro_f1"]


def test_the_table_of_the_documents_is_what_the_options_become() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("\n## Two recipes\n")[2]
    rows = re.findall(r"^\| `--([a-z-]+)` \| (.+) \| (.+) \|$", section, re.MULTILINE)
    columns = ("paper", "recommended")
    shown = {option.replace("-", "_"): values for option, *values in rows}
    for column, name in enumerate(columns):
        options = options_of("--recipe", name)
        assert {option: values[column] for option, values in shown.items()} == {
            option: "the encoder's own" if options[option] is None else str(options[option])
            for option in shown
        }
    assert set(RECIPES["recommended"]) < set(shown)
