"""The installation of a server, as the command line shows it: a bar, or lines in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aigid.cli.errors import print_message
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import is_quiet

if TYPE_CHECKING:
    from aigid.serving import ServerConfig

_LABEL = "installing tritonserver"
_LINE_EVERY_S = 5.0


def install_server_of(config: "ServerConfig") -> None:
    """Install the server that this configuration needs, if it is not there, and show how far."""
    from aigid.serving import find_program

    with _installation_shown() as on_progress:
        find_program(config.cache, show_message, on_progress, folder=config.server)


def prepare_server_in(folder: Path) -> None:
    """Install the server into a folder, and print where it can be used."""
    from aigid.serving import prepare_server

    with _installation_shown() as on_progress:
        python = prepare_server(folder, show_message, on_progress)
    with printing("where the server is"):
        print_result(
            f"{folder}: tritonserver for Linux on x86-64 with Python {python.version}. There: "
            f"aigid serve --server {folder.name}"
        )


def show_message(line: str) -> None:
    """Print a line to stderr, but with -q."""
    if not is_quiet():
        print_message(line)


@contextmanager
def _installation_shown() -> Iterator[Callable[[float], None]]:
    """Yield what shows a fraction on stderr. It shows nothing before it is called."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if is_quiet() or not console.is_terminal:
        yield (lambda fraction: None) if is_quiet() else _line_shower()
        return
    columns = (TextColumn(_LABEL), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console)
    task = bar.add_task(_LABEL, total=1.0)

    def show(fraction: float) -> None:
        bar.start()
        bar.update(task, completed=fraction)

    try:
        yield show
    finally:
        bar.stop()


def _line_shower() -> Callable[[float], None]:
    """Return what prints a fraction every few seconds."""
    started = printed = time.monotonic()

    def show(fraction: float) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= _LINE_EVERY_S:
            printed = now
            print_message(f"{_LABEL}: {fraction:.0%} after {now - started:.0f} s")

    return show
