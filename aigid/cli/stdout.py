"""Results on a stdout that may be full, closed, or unable to show every character."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from aigid.errors import AigidError
from aigid.records import escaped


class OutputError(AigidError):
    """Stdout cannot be written to; what the command did is done (exit status 1)."""


def replace_unprintable() -> None:
    r"""Have stdout and stderr print characters that their encoding lacks as escapes, such as \xe9.

    A terminal or log may be ASCII only, and a file's name may hold bytes that are no text.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_result(line: str) -> None:
    """Print a line to stdout. Not click.echo, which prints UTF-8 on a stdout that is ASCII only."""
    sys.stdout.write(f"{escaped(line)}\n")


@contextmanager
def printing(what: str, done: str = "") -> Iterator[None]:
    """Raise OutputError where what is printed inside cannot be written.

    The error names `what` was printed and what is `done` all the same. A closed pipe is no error:
    its reader (`head -1`) has read what it wanted.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        flush_or_discard(sys.stdout)
    except OSError as error:
        flush_or_discard(sys.stdout)
        reason = f"cannot print {what}: {error.strerror or error}"
        raise OutputError(f"{reason}; {done}" if done else reason) from error


def flush_or_discard(stream: TextIO) -> None:
    """Flush a stream; one that cannot be written to loses what it holds.

    Python would fail on that once more at its exit, and end with status 120.
    """
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
