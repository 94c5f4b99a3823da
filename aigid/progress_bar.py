"""What is seen while a scan runs: a bar on a terminal, a line every few seconds elsewhere, or JSON lines for machines."""

import dataclasses
import json
import sys
import time
from abc import ABC, abstractmethod
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
    TimeRemainingColumn,
)
from rich.text import Text

from aigid.progress import ClusterState

LINE_EVERY_S = 5.0
# Machines that a person is shown: the rest are added up.
_MOST_NODES = 12


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("-- rows/s" if task.speed is None else f"{task.speed:,.0f} rows/s")


class _ClusterBar(Progress):
    """A bar with lines about a cluster below it."""

    state: ClusterState | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the lines."""
        yield from super().get_renderables()
        if self.state is not None:
            yield from map(Text, _cluster_lines(self.state))


class BarProgress:
    """A progress bar with rows, rows/s, errors and time left."""

    def __init__(self, label: str, console: Console) -> None:
        """Show nothing until `start`."""
        errors = TextColumn("{task.fields[errors]} errors")
        columns = (
            TextColumn(label),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            errors,
            TimeRemainingColumn(),
        )
        self._bar = _ClusterBar(*columns, console=console)
        self._task = self._bar.add_task(label, total=None, errors=0)
        self._errors = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def cluster(self, state: ClusterState) -> None:
        """Show shards and machines below the bar."""
        self._bar.state = state

    def message(self, line: str) -> None:
        """Print a line above the bar, from any thread."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _TimedProgress(ABC):
    """Adds up what is done, and every few seconds prints to `stream` how far it is."""

    def __init__(self, label: str, stream: TextIO) -> None:
        """Print nothing until `start`."""
        self._label, self._stream = label, stream
        self._cluster: ClusterState | None = None
        self._total = self._done = self._errors = self._begun_at = 0
        self._started = self._printed = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def start(self, total_rows: int, done_rows: int) -> None:
        """Print how much there is to do."""
        self._total, self._done, self._begun_at, self._errors = total_rows, done_rows, done_rows, 0
        self._started = self._printed = time.perf_counter()
        self._print_start()

    def advance(self, rows: int, errors: int) -> None:
        """Print how far it is if the last time is some seconds ago."""
        self._done += rows
        self._errors += errors
        if time.perf_counter() - self._printed >= LINE_EVERY_S:
            self._print_now()

    def cluster(self, state: ClusterState) -> None:
        """Print it with the rest."""
        self._cluster = state
        self.advance(0, 0)

    def _print_now(self) -> None:
        self._printed = time.perf_counter()
        self._print_progress((self._done - self._begun_at) / (self._printed - self._started))

    @abstractmethod
    def _print_start(self) -> None: ...

    @abstractmethod
    def _print_progress(self, rows_per_s: float) -> None: ...


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
        print(line, file=self._stream, flush=True)

    def _print_start(self) -> None:
        resumed = f", {self._done:,} of them done before" if self._done else ""
        self.message(f"{self._label}: {self._total:,} rows{resumed}")

    def _print_progress(self, rows_per_s: float) -> None:
        left = (
            f"{(self._total - self._done) / rows_per_s:,.0f} s left"
            if rows_per_s
            else "time left unknown"
        )
        rows = f"{self._done:,} of {self._total:,} rows"
        self.message(
            f"{self._label}: {rows}, {rows_per_s:,.0f} rows/s, {self._errors:,} errors, {left}"
        )
        for line in _cluster_lines(self._cluster) if self._cluster else ():
            self.message(f"{self._label}: {line}")


class JsonProgress(_TimedProgress):
    """A JSON object a line: `start`, `progress` every few seconds and at the end, `message` for what a person must see."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._print_now()

    def message(self, line: str) -> None:
        """Print a message."""
        self._print("message", text=line)

    def _print_start(self) -> None:
        self._print("start", rows_total=self._total, rows=self._done)

    def _print_progress(self, rows_per_s: float) -> None:
        self._print(
            "progress",
            rows_total=self._total,
            rows=self._done,
            errors=self._errors,
            rows_per_s=round(rows_per_s, 2),
            seconds_left=round((self._total - self._done) / rows_per_s, 1)
            if rows_per_s > 0
            else None,
            **({"cluster": dataclasses.asdict(self._cluster)} if self._cluster else {}),
        )

    def _print(self, event: str, **values: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(
            json.dumps({"event": event, "label": self._label, "time": at, **values}),
            file=self._stream,
            flush=True,
        )


def _cluster_lines(state: ClusterState) -> Iterator[str]:
    slow = f", slow: {', '.join(map(str, state.slow))}" if state.slow else ""
    yield f"shards: {state.done:,} of {state.total:,} done, {state.running:,} running, {state.failed:,} failed{slow}"
    for name, node in list(state.nodes.items())[:_MOST_NODES]:
        yield f"{name}: {node.workers} workers, {node.rows_per_s:,.0f} rows/s"
    rest = list(state.nodes.values())[_MOST_NODES:]
    if rest:
        rate = sum(node.rows_per_s for node in rest)
        yield f"{len(rest)} more machines: {sum(node.workers for node in rest)} workers, {rate:,.0f} rows/s"


def show_progress(
    label: str, *, as_json: bool = False
) -> BarProgress | LineProgress | JsonProgress:
    """A bar where stderr is a terminal, else lines on it; or JSON lines."""
    if as_json:
        return JsonProgress(label, sys.stderr)
    console = Console(stderr=True)
    return BarProgress(label, console) if console.is_terminal else LineProgress(label, sys.stderr)
