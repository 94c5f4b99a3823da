"""Write docs/cli.md from the --help of every command.

`python docs/generate_cli.py` writes the page. A test fails if the page is stale.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from aigid.cli.command import CONTEXT_SETTINGS
from aigid.cli.errors import EXIT_STATUSES, variable_of
from aigid.cli.main import COMMANDS, main

PAGE = Path(__file__).parent / "cli.md"
_HELP_WIDTH = 96

INTRODUCTION = """# The command line

<!-- Written by docs/generate_cli.py from --help: run `make docs` instead of editing. -->

`aigid COMMAND` and `python -m aigid COMMAND` are the same. Results go to stdout; progress, notices
and errors go to stderr. An error is one line that begins with `aigid:` and names the option to
change.

On a terminal, progress is a bar. Elsewhere it is a line every few seconds, or with
`--progress-json` a JSON object on each line. `-v` logs what aigid does, `-vv` logs details, and
`-q` prints errors only. These options may stand before or after the command: `aigid -q scan ...`
and `aigid scan -q ...` are the same.
"""

EXIT_NOTES = """\
A closed pipe is no error: `aigid scan ... | head -1` exits with the status of the scan. If stdout
is full when a scan has finished, the status is 1 and the message tells where the results are; the
same command again prints the summary. Characters that stdout cannot encode
(`PYTHONIOENCODING=ascii`) are printed as escapes such as `\\xe9`.
"""

VARIABLES = """\
Every option can be given as an environment variable, which the command line overrides. The name is
`AIGID_`, the command and the option in capitals, with `_` for `-` and for spaces:
`AIGID_SCAN_MODEL=model/` is `aigid scan --model model/`. A flag takes `true` or `false`. An option
that is repeatable takes several values with spaces between them. An empty variable counts as not
set. An error about a value from a variable names the variable. Variables about Ray only take effect
with `--ray` (or `AIGID_SCAN_RAY`). The variables of each command are listed below its help.
"""


def render() -> str:
    """Return the page."""
    group = _context(main, "aigid")
    parts = [
        INTRODUCTION,
        "## Exit statuses\n",
        "| exit status | meaning |\n| --- | --- |",
        *(f"| {status} | {meaning} |" for status, meaning in EXIT_STATUSES.items()),
        "",
        EXIT_NOTES,
        "## Environment variables\n",
        VARIABLES,
        *_section("aigid", main, group),
    ]
    for name in COMMANDS:
        command = main.get_command(group, name)
        assert command is not None
        parts += _section(f"aigid {name}", command, _context(command, name, group))
    return "\n".join(parts)


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    """Return a context whose help has a fixed width and the program's own name."""
    settings: dict[str, Any] = CONTEXT_SETTINGS if parent is None else {}
    return command.context_class(
        command, info_name=name, parent=parent, terminal_width=_HELP_WIDTH, **settings
    )


def _section(title: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"```text\n{command.get_help(context)}\n```\n"
    variables = (
        f"`{variable_of(option, context)}`"
        for option in command.params
        if isinstance(option, click.Option) and option.name != "version"
    )
    yield textwrap.fill(f"Variables: {', '.join(variables)}.", width=100) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
