"""What the commands in build/ share: refusals as one line and an exit status, sizes as a table."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click

from aigid.errors import AigidError


@contextmanager
def shown_errors() -> Iterator[None]:
    """Turn what aigid refuses into a line on stderr and the exit status that goes with it."""
    try:
        yield
    except AigidError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_status)


def print_sizes(sizes: Mapping[str, int]) -> None:
    """Print files with their sizes, of bytes given in MB."""
    for name, size in sizes.items():
        print(f"{size / 1e6:9.2f} MB  {name}")
