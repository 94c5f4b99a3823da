"""`aigid report`: one HTML page about the results of a scan."""

from json import dumps
from typing import TYPE_CHECKING

import click

from aigid.cli.command import Command, options_under
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress

if TYPE_CHECKING:
    from aigid.report import WrittenReport

_content = options_under("Content")
_output = options_under("Output")


@click.command("report", cls=Command)
@click.argument("results", metavar="DIR")
@_content(
    "--by",
    metavar="COLUMN",
    help="Compare the values of a column that the scan kept.  [default: the manifest's files, or "
    "runs of rows where there is one file]",
)
@_content(
    "--label-column",
    metavar="COLUMN",
    help="Count the rows that are right, by a column that the scan kept and that says real or "
    "AI-generated.",
)
@_content("--no-images", is_flag=True, help="Leave images out; prompts and references stay.")
@_output(
    "-o",
    "--out",
    metavar="FILE",
    help="Write the page to this file.  [default: DIR/report.html]",
)
@_output("--json", is_flag=True, help="Print the page's path and figures as JSON.")
def command(
    results: str,
    by: str | None,
    label_column: str | None,
    no_images: bool,
    out: str | None,
    json: bool,
) -> None:
    """Write one HTML page about a scan's results: answers, charts and images.

    DIR is the --out of a scan, on a disk or in an object store. The page needs no network and no
    other file. Images come from the manifest once more, by the rules that the scan had; those that
    are gone leave a placeholder.

    \b
    Example:
      aigid report results/
      aigid report results/ --by camera --out report.html

    Exit status: 0 the page is written; 1 results are damaged, or the page cannot be written;
    2 wrong usage.
    """
    from aigid.report import ReportConfig, write_report

    config = ReportConfig(results, out, by, label_column, not no_images)
    with shown_progress("report") as progress:
        written = write_report(config, progress)
    with printing("the figures", done=f"the report is in {written.page}"):
        print_result(dumps(vars(written)) if json else _line(written, label_column))


def _line(written: "WrittenReport", label_column: str | None) -> str:
    from aigid.progress_bar import counted

    rows, errors = counted(written.rows, "row"), counted(written.errors, "error")
    told = f"{written.page}: {rows}, {written.ai:,} AI-generated, {errors}"
    if written.right is not None:
        told += f"; {written.right:,} of {written.labelled:,} right by {label_column}"
    return f"{told}; the scan has not finished" if written.unfinished else told
