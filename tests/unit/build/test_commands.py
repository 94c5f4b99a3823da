"""The commands of build/: their help, and the commands that documents and the Makefile show."""

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from aigid.cli.command import CONTEXT_SETTINGS
from aigid.cli.main import main as aigid

ROOT = Path(__file__).parents[3]
COMMANDS = sorted(
    path.stem for path in (ROOT / "build").glob("*.py") if path.stem != "command_line"
)
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "Makefile",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "build").glob("**/*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    )
)


def command_of(name: str) -> click.Command:
    command = importlib.import_module(name).main
    assert isinstance(command, click.Command)
    return command


def shown_commands(text: str) -> list[tuple[click.Command, list[str]]]:
    """Return all commands that a text shows with arguments: build/NAME.py and aigid NAME."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = []
    for name, arguments in re.findall(r"python build/(\w+)\.py([^`\n]*)", joined):
        found.append((command_of(name), split_words(arguments)))
    # In blocks of code only: elsewhere, words of the sentence may follow.
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```$", joined, re.MULTILINE | re.DOTALL))
    for name, arguments in re.findall(r"^aigid ([a-z-]+)( [^\n]*)?$", blocks, re.MULTILINE):
        found.append((aigid_command(name), split_words(arguments)))
    return found


def split_words(arguments: str) -> list[str]:
    return shlex.split(arguments.partition(" # ")[0])


def aigid_command(name: str) -> click.Command:
    command = aigid.get_command(click.Context(aigid), name)
    assert command is not None, name
    return command


def parse_options(command: click.Command, arguments: list[str]) -> None:
    """Raise click.UsageError for options that the command does not have."""
    # click keeps the help option of the first context that asks for it.
    context = click.Context(command, **CONTEXT_SETTINGS)
    command.make_parser(context).parse_args(list(arguments))


def recipe(target: str) -> list[str]:
    """Return the commands of a target of the Makefile, one a line."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Makefile").read_text(encoding="utf-8"))
    _, _, rest = text.partition(f"\n{target}:")
    lines = rest.splitlines()[1:]
    end = next(number for number, line in enumerate(lines) if not line.startswith("\t"))
    ours = [line for line in lines[:end] if line.startswith("\t$(BIN)/")]
    return [line.removeprefix("\t$(BIN)/") for line in ours]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_every_option(name: str) -> None:
    result = CliRunner().invoke(command_of(name), ["--help"])
    assert result.exit_code == 0
    # pipeline.py is `aigid build` itself.
    example = "aigid build" if name == "pipeline" else f"Example: python build/{name}.py"
    assert example in result.stdout


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"self_training", "pipeline"}))
def test_every_option_has_a_help_text(name: str) -> None:
    options = [item for item in command_of(name).params if isinstance(item, click.Option)]
    assert not [option.name for option in options if not option.help]


@pytest.mark.parametrize("page", PAGES)
def test_shown_commands_have_only_options_that_exist(page: str) -> None:
    for command, arguments in shown_commands((ROOT / page).read_text(encoding="utf-8")):
        parse_options(command, arguments)


def test_commands_are_found_in_pages() -> None:
    shown = [shown_commands((ROOT / page).read_text(encoding="utf-8")) for page in PAGES]
    names = {command.name for found in shown for command, _ in found}
    assert {"scan", "train", "build", "serve", "main"} <= names


def test_the_readme_shows_every_command() -> None:
    table = (ROOT / "build/README.md").read_text(encoding="utf-8")
    assert not [name for name in COMMANDS if f"| `{name}.py` |" not in table]


def test_the_readme_names_the_modules_of_the_library() -> None:
    text = (ROOT / "build/README.md").read_text(encoding="utf-8")
    section = text.partition("## Where the code is")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+\.py)`", section))
    assert named
    assert not [name for name in named if not (ROOT / "aigid/export" / name).is_file()]


def test_the_recipe_of_the_demo_model_has_only_options_that_exist() -> None:
    lines = recipe("demo-model")
    assert len(lines) == 8
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "python":
            parse_options(command_of(Path(arguments[0]).stem), arguments[1:])
        else:
            parse_options(aigid_command(arguments[0]), arguments[1:])
