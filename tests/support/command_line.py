"""The command line in tests: in this process, or in one where some packages are not installed."""

import subprocess
import sys

import click
from click.testing import CliRunner, Result

from aigid.cli.main import main

# Stands for an installation without the extras: the finder of installed packages does not find
# these.
_HIDE = """
import sys
from importlib.machinery import PathFinder
class Hide(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {hidden!r}
        return None if hidden else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Hide
from aigid.cli.main import main
"""


def command_of(name: str) -> click.Command:
    """Return a command of aigid by its name."""
    command = main.get_command(click.Context(main), name)
    assert command is not None, name
    return command


def invoke(*words: object) -> Result:
    """Run aigid in this process; an exception that is not caught is the test's failure."""
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def run_without(hidden: tuple[str, ...], *words: object) -> subprocess.CompletedProcess[str]:
    """Run aigid in a process of its own where some packages are not installed."""
    script = _HIDE.format(hidden=hidden) + f"main({[str(word) for word in words]!r})"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)
