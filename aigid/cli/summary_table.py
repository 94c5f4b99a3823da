"""The summary of a scan for a person: sources, errors with an example and a remedy, one line."""

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aigid.progress_bar import counted
from aigid.records import escaped
from aigid.results import REMEDIES, ErrorExample, ScanSummary

# Long lines are hard to read, however wide the terminal is.
_MAX_WIDTH = 110
_INDENT = 10


def print_summary(summary: ScanSummary, out: str) -> None:
    """Print the summary to stdout; its last line, about the results folder, is never wrapped."""
    # Names of models and folders are no markup: [v2] is not a style, and :smile: not an emoji.
    console = Console(markup=False, emoji=False, highlight=False)
    console.width = min(console.width, _MAX_WIDTH)
    with console.capture() as capture:
        model = escaped(summary.model.name)
        console.print(f"model: {model}, threshold {summary.threshold:g}", soft_wrap=True)
        console.print(_sources(summary))
        console.print(_verdicts(summary))
        if summary.evidence is not None:
            console.print(_evidence(summary.evidence))
        for code, count in summary.errors.items():
            _print_error(console, code, count, summary.error_examples.get(code))
        console.print(_last_line(summary, out), soft_wrap=True)
    sys.stdout.write(capture.get())


def _sources(summary: ScanSummary) -> Table:
    table = Table()
    table.add_column("source")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    errors = {f"error: {code}": count for code, count in summary.errors.items()}
    for name, count in {**summary.sources, **errors}.items():
        table.add_row(escaped(name), f"{count:,}", f"{count / summary.rows:.1%}")
    return table


def _verdicts(summary: ScanSummary) -> str:
    counts = ", ".join(f"{name} {count:,}" for name, count in summary.verdicts.items())
    return f"verdicts ({summary.mode}): {counts}"


def _evidence(counts: dict[str, int]) -> str:
    """Return what the image files say, as one line."""
    found = ", ".join(f"{says} {count:,}" for says, count in counts.items())
    return f"evidence in the files: {found}"


def _print_error(console: Console, code: str, count: int, example: ErrorExample | None) -> None:
    """Print an error code's count, its first row, and what to do about it."""
    more = ", the first of them:" if count > 1 else ":"
    rows = counted(count, "row") + (more if example else "")
    console.print(f"{escaped(code)}: {rows}", style="bold")
    for name, text in _facts(code, example):
        lines = Text(escaped(text)).wrap(console, console.width - _INDENT, overflow="fold")
        for line in lines:
            line.rstrip()
            console.print(f"  {name:{_INDENT - 2}}{line.plain}")
            name = ""


def _facts(code: str, example: ErrorExample | None) -> Iterator[tuple[str, str]]:
    if example is not None:
        yield "where", f"row {example.row:,} of {example.manifest}"
        # Most reasons begin with the image's reference.
        if example.image is not None and escaped(example.image) not in escaped(example.detail):
            yield "image", example.image
        yield "reason", example.detail
    if code in REMEDIES:
        yield "remedy", REMEDIES[code]


def _last_line(summary: ScanSummary, out: str) -> str:
    failed = counted(summary.rows - summary.scored, "error")
    speed = summary.run.rows_per_s
    pace = f", {speed:,.0f} rows/s" if speed else ""
    rows = counted(summary.rows, "row")
    return f"{escaped(out)}: {rows}, {summary.ai:,} AI-generated, {failed}{pace}"
