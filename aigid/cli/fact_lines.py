"""Facts for a person: a name, and beside it a text that is wrapped to the terminal's width."""

import sys
from collections.abc import Iterable
from textwrap import wrap

from rich.console import Console

from aigid.records import escaped

# Long lines are hard to read, however wide the terminal is.
_MAX_WIDTH = 110


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print facts to stdout, their texts below each other. A fact without a name goes on."""
    shown = [(escaped(name), escaped(text)) for name, text in facts]
    indent = 2 + max((len(name) for name, _ in shown), default=0)
    width = max(20, min(Console().width, _MAX_WIDTH) - indent)
    for name, text in shown:
        for line in wrap(text, width, break_on_hyphens=False) or [""]:
            sys.stdout.write(f"{name:{indent}}{line}".rstrip() + "\n")
            name = ""
