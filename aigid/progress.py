"""What a person sees while a scan runs: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_S = 5.0


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("-- rows/s" if task.speed is None else f"{task.speed:,.0f} rows/s")


class BarProgress:
    """A progress bar with rows, rows/s, errors and time left."""

    def __init__(self, label: str, console: Console) -> None:
        """Show nothing until `start`."""
        errors = TextColumn("{task.fields[errors]} errors")
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), _RateColumn(), errors, TimeRemainingColumn())
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task(label, total=None, errors=0)
        self._errors = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def start(self, total_rows: int, done_rows: int) -> None:
        """Show the bar, `done_rows` of it filled by an earlier run."""
        self._errors = 0
        self._bar.reset(self._task, total=total_rows, completed=done_rows, errors=0)
        self._bar.start()

    def advance(self, rows: int, errors: int) -> None:
        """Move the bar on."""
        self._errors += errors
        self._bar.update(self._task, advance=rows, errors=self._errors)

    def say(self, line: str) -> None:
        """Print a line above the bar, from any thread."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class LineProgress:
    """A line on `stream` every few seconds: for logs."""

    def __init__(self, label: str, stream: TextIO) -> None:
        """Print nothing until `start`."""
        self._label, self._stream = label, stream
        self._total = self._done = self._errors = self._begun_at = 0
        self._started = self._printed = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def start(self, total_rows: int, done_rows: int) -> None:
        """Print how much there is to do."""
        self._total, self._done, self._begun_at, self._errors = total_rows, done_rows, done_rows, 0
        self._started = self._printed = time.perf_counter()
        resumed = f", {done_rows:,} of them done before" if done_rows else ""
        print(f"{self._label}: {total_rows:,} rows{resumed}", file=self._stream, flush=True)

    def advance(self, rows: int, errors: int) -> None:
        """Print a line if the last one is some seconds old."""
        self._done += rows
        self._errors += errors
        now = time.perf_counter()
        if now - self._printed < LINE_EVERY_S:
            return
        self._printed = now
        rate = (self._done - self._begun_at) / (now - self._started)
        left = f"{(self._total - self._done) / rate:,.0f} s left" if rate else "time left unknown"
        line = f"{self._done:,} of {self._total:,} rows, {rate:,.0f} rows/s, {self._errors:,} errors, {left}"
        print(f"{self._label}: {line}", file=self._stream, flush=True)

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, file=self._stream, flush=True)


def show_progress(label: str) -> BarProgress | LineProgress:
    """A bar where stderr is a terminal, else lines on it."""
    console = Console(stderr=True)
    return BarProgress(label, console) if console.is_terminal else LineProgress(label, sys.stderr)
