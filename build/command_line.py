"""What the commands in build/ share: the error boundary, and sizes as a table."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from aigid.cli.errors import error_boundary


def shown_errors() -> AbstractContextManager[None]:
    """Turn errors of aigid into a line on stderr, with this command's flags, and an exit status."""
    return error_boundary()


def print_sizes(sizes: Mapping[str, int]) -> None:
    """Print files and their sizes, given in bytes, in MB."""
    for name, size in sizes.items():
        print(f"{size / 1e6:9.2f} MB  {name}")
