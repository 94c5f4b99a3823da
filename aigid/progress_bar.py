"""Progress on stderr: a bar on a terminal, lines in a log, or JSON lines for programs."""

import dataclasses
import json
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.text import Text

from aigid.progress import ClusterState
from aigid.records import escaped

LINE_EVERY_S = 5.0
RATE_AFTER_S = 1.0
"""Seconds of work before a rate is shown: the first batches finish together and prove nothing."""
RATE_WINDOW_S = 30.0
# Nodes that have a line of their own. The others are added up.
_MOST_NODES = 12


class RowRate:
    """Rows per second of this run, over the last `RATE_WINDOW_S` seconds."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Count from zero. Rows of earlier runs are never counted."""
        self._rows = 0
        self._samples = deque([(time.perf_counter(), 0)])

    def advance(self, rows: int) -> None:
        """Count rows; negative where work was lost with a worker."""
        self._rows += rows
        now = time.perf_counter()
        if now - self._samples[-1][0] >= RATE_AFTER_S:
            self._samples.append((now, self._rows))

    def rows_per_s(self) -> float | None:
        """Return the rate, or None in the first `RATE_AFTER_S` seconds."""
        now = time.perf_counter()
        while len(self._samples) > 1 and self._samples[1][0] <= now - RATE_WINDOW_S:
            self._samples.popleft()
        since, rows = self._samples[0]
        if now - since < RATE_AFTER_S:
            return None
        return max(0.0, (self._rows - rows) / (now - since))

    def seconds_left(self, rows: int) -> float | None:
        """Return how long this many rows take at this rate; None where that is unknown."""
        if rows <= 0:
            return 0.0
        rate = self.rows_per_s()
        return rows / rate if rate else None


class _RateColumn(ProgressColumn):
    """The rate and the time left, both unknown at first."""

    def __init__(self, rate: RowRate) -> None:
        super().__init__()
        self._rate = rate

    def render(self, task: Task) -> Text:
        rate = self._rate.rows_per_s()
        shown = "--" if rate is None else f"{rate:,.0f}"
        return Text(f"{shown} rows/s", style="progress.percentage")


class _TimeLeftColumn(_RateColumn):
    def render(self, task: Task) -> Text:
        left = None if task.total is None else int(task.total - task.completed)
        seconds = None if left is None else self._rate.seconds_left(left)
        return Text(_clock(seconds), style="progress.remaining")


def _clock(seconds: float | None) -> str:
    """Return a duration as h:mm:ss."""
    if seconds is None:
        return "-:--:--"
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}"


class _ErrorsColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(counted(task.fields["errors"], "error"))


class _ClusterBar(Progress):
    """A bar with lines about a cluster below it."""

    state: ClusterState | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar, then the lines."""
        yield from super().get_renderables()
        if self.state is not None:
            yield from map(Text, _cluster_lines(self.state))


class BarProgress:
    """A progress bar with rows, rows/s, errors and time left."""

    def __init__(self, label: str, console: Console) -> None:
        """Show nothing until `start`."""
        self._errors, self._rate = 0, RowRate()
        self._bar = _ClusterBar(
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(self._rate),
            _ErrorsColumn(),
            _TimeLeftColumn(self._rate),
            console=console,
        )
        self._task = self._bar.add_task(label, total=None, errors=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, total_rows: int, done_rows: int, *, at_least: bool = False) -> None:
        """Show the bar, with `done_rows` of it filled by an earlier run."""
        self._errors = 0
        self._rate.start()
        total = None if at_least else total_rows
        self._bar.reset(self._task, total=total, completed=done_rows, errors=0)
        self._bar.start()

    def advance(self, rows: int, errors: int) -> None:
        """Move the bar on."""
        self._errors += errors
        self._rate.advance(rows)
        self._bar.update(self._task, advance=rows, errors=self._errors)

    def cluster(self, state: ClusterState) -> None:
        """Show shards and nodes below the bar."""
        self._bar.state = state

    def message(self, line: str) -> None:
        """Print a line above the bar, from any thread."""
        self._bar.console.print(escaped(line), markup=False, highlight=False, soft_wrap=True)


class _TimedProgress(ABC):
    """Counts what is done, and prints it to `stream` every few seconds.

    A stream that can no longer be written to ends the printing, never the work.
    """

    def __init__(self, label: str, stream: TextIO) -> None:
        """Print nothing until `start`."""
        self._label, self._stream = label, stream
        self._cluster: ClusterState | None = None
        self._total = self._done = self._errors = 0
        self._rate = RowRate()
        self._printed = time.perf_counter()
        self._is_broken = self._at_least = False

    def __enter__(self) -> Self:
        return self

    def start(self, total_rows: int, done_rows: int, *, at_least: bool = False) -> None:
        """Print how much there is to do."""
        self._total, self._done, self._errors = total_rows, done_rows, 0
        self._at_least = at_least
        self._rate.start()
        self._printed = time.perf_counter()
        self._print_start()

    def advance(self, rows: int, errors: int) -> None:
        """Count rows, and print the state if the last line is some seconds old."""
        self._done += rows
        self._errors += errors
        self._rate.advance(rows)
        if time.perf_counter() - self._printed >= LINE_EVERY_S:
            self._printed = time.perf_counter()
            self._print_progress()

    def cluster(self, state: ClusterState) -> None:
        """Print shards and nodes with the next lines."""
        self._cluster = state
        self.advance(0, 0)

    def _all_rows(self) -> int:
        """Return the total, or what is known of it so far."""
        return max(self._total, self._done) if self._at_least else self._total

    def _seconds_left(self) -> float | None:
        return None if self._at_least else self._rate.seconds_left(self._total - self._done)

    def _write(self, line: str) -> None:
        if self._is_broken:
            return
        try:
            print(line, file=self._stream, flush=True)
        except OSError:
            self._is_broken = True

    @abstractmethod
    def _print_start(self) -> None: ...

    @abstractmethod
    def _print_progress(self) -> None: ...


class LineProgress(_TimedProgress):
    """A line every few seconds: for logs."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def message(self, line: str) -> None:
        """Print a line."""
        self._write(escaped(line))

    def _print_start(self) -> None:
        resumed = f", {self._done:,} of them done before" if self._done else ""
        least = "at least " if self._at_least else ""
        self._write(f"{self._label}: {least}{counted(self._all_rows(), 'row')}{resumed}")

    def _print_progress(self) -> None:
        rate = self._rate.rows_per_s()
        left_s = self._seconds_left()
        parts = (
            f"{self._done:,} of {'at least ' if self._at_least else ''}{self._all_rows():,} rows",
            "-- rows/s" if rate is None else f"{rate:,.0f} rows/s",
            counted(self._errors, "error"),
            "time left unknown" if left_s is None else f"{left_s:,.0f} s left",
        )
        self._write(f"{self._label}: {', '.join(parts)}")
        for line in _cluster_lines(self._cluster) if self._cluster else ():
            self._write(f"{self._label}: {line}")


class JsonProgress(_TimedProgress):
    """A JSON object on each line, for programs.

    The events are `start`, `progress` (every few seconds and at the end) and `message` (a line for
    a person). With `at_least`, there are more rows than `rows_total`. `rows_per_s` and
    `seconds_left` are null as long as they are unknown.
    """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._print_progress()

    def message(self, line: str) -> None:
        """Print a message."""
        self._print("message", text=line)

    def _print_start(self) -> None:
        self._print("start", **self._totals())

    def _print_progress(self) -> None:
        rate = self._rate.rows_per_s()
        left_s = self._seconds_left()
        self._print(
            "progress",
            **self._totals(),
            errors=self._errors,
            rows_per_s=None if rate is None else round(rate, 2),
            seconds_left=None if left_s is None else round(left_s, 1),
            **({"cluster": dataclasses.asdict(self._cluster)} if self._cluster else {}),
        )

    def _totals(self) -> dict[str, Any]:
        at_least = {"at_least": True} if self._at_least else {}
        return {"rows_total": self._all_rows(), **at_least, "rows": self._done}

    def _print(self, event: str, **values: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write(json.dumps({"event": event, "label": self._label, "time": at, **values}))


class SilentProgress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def start(self, total_rows: int, done_rows: int, *, at_least: bool = False) -> None:
        """Show nothing."""

    def advance(self, rows: int, errors: int) -> None:
        """Show nothing."""

    def cluster(self, state: ClusterState) -> None:
        """Show nothing."""

    def message(self, line: str) -> None:
        """Show nothing."""


ShownProgress = BarProgress | LineProgress | JsonProgress | SilentProgress


def show_progress(label: str, *, as_json: bool = False, quiet: bool = False) -> ShownProgress:
    """Return a bar where stderr is a terminal, and lines elsewhere; or JSON lines, or nothing."""
    if quiet:
        return SilentProgress()
    if as_json:
        return JsonProgress(label, sys.stderr)
    console = Console(stderr=True)
    return BarProgress(label, console) if console.is_terminal else LineProgress(label, sys.stderr)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 row", "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _cluster_lines(state: ClusterState) -> Iterator[str]:
    slow = f", slow: {', '.join(map(str, state.slow))}" if state.slow else ""
    counts = f"{state.running:,} running, {state.failed:,} failed{slow}"
    yield f"shards: {state.done:,} of {state.total:,} done, {counts}"
    for name, node in list(state.nodes.items())[:_MOST_NODES]:
        yield f"{name}: {counted(node.workers, 'worker')}, {node.rows_per_s:,.0f} rows/s"
    others = list(state.nodes.values())[_MOST_NODES:]
    if others:
        workers = counted(sum(node.workers for node in others), "worker")
        rate = sum(node.rows_per_s for node in others)
        yield f"{counted(len(others), 'more node')}: {workers}, {rate:,.0f} rows/s"
