"""What the groups of options share: types of values, and how a command is given a group."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
MANY = click.IntRange(min=1)
SHARE = click.FloatRange(0, 1)

Command = Callable[..., None]


def with_options(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    """Give a command the options, in this order in its help."""
    for option in reversed(options):
        command = option(command)
    return command
