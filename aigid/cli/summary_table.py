"""The summary of a scan as a person reads it."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(summary: dict[str, Any], out: str) -> None:
    """Print the summary of a scan to stdout: a table of sources and errors, then one line."""
    # Names of models and folders are not markup: [v2] is no style, and :smile: no picture.
    console = Console(markup=False, emoji=False, highlight=False)
    table = Table()
    table.add_column("source")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    counts = {
        **summary["sources"],
        **{f"error: {code}": count for code, count in summary["errors"].items()},
    }
    for name, count in counts.items():
        table.add_row(name, f"{count:,}", f"{count / summary['rows']:.1%}")
    console.print(
        f"model: {summary['model']['name']}, threshold {summary['threshold']:g}", soft_wrap=True
    )
    console.print(table)
    failed = summary["rows"] - summary["scored"]
    speed = summary["run"]["rows_per_s"]
    pace = f", {speed:,.0f} rows/s" if speed else ""
    line = (
        f"{out}: {summary['rows']:,} rows, {summary['ai']:,} AI-generated, {failed:,} errors{pace}"
    )
    console.print(line, soft_wrap=True)
