"""`aigid filter`: the rows of a manifest to keep or to drop, by the results of its scan."""

from dataclasses import asdict
from json import dumps
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.option_types import FRACTION
from aigid.cli.stdout import print_result, printing
from aigid.records import ErrorCode, Verdict

if TYPE_CHECKING:
    from aigid.filtering import FilterTotals

_conditions = options_under("Conditions")
_output = options_under("Output")


@click.command("filter", cls=Command)
@click.argument("folder", metavar="DIR")
@_conditions(
    "--verdict",
    type=click.Choice([one.value for one in Verdict]),
    multiple=True,
    help="Rows with this verdict; repeatable.",
)
@_conditions(
    "--evidence",
    type=click.Choice(["ai", "camera", "edited", "none"]),
    multiple=True,
    help="Rows whose image files say this of their origin; repeatable. Needs a scan with "
    "--evidence.",
)
@_conditions("--source", metavar="NAME", multiple=True, help="Rows of this source; repeatable.")
@_conditions("--min-p-ai", type=FRACTION, help="Rows with at least this p_ai.")
@_conditions("--max-p-ai", type=FRACTION, help="Rows with at most this p_ai.")
@_conditions(
    "--error",
    type=click.Choice([one.value for one in ErrorCode]),
    multiple=True,
    help="Also rows that were not scored, with this error; repeatable. Without it, no row with an "
    "error meets the conditions.",
)
@_output("-o", "--out", required=True, metavar="NEW", help="File or folder for the rows.")
@_output("--drop", is_flag=True, help="Write the rows that do not meet the conditions.")
@_output("--json", is_flag=True, help="Print the counts as JSON.")
def command(folder: str, out: str, json: bool, **options: Any) -> None:
    """Write the rows of a manifest that the results of its scan select.

    DIR is the --out of a finished scan; the manifest must be as it was scanned. A row is written if
    it meets every condition, and with --drop if it does not. Rows are in the manifest's form and
    order: rows of Parquet, records of CSV, TSV and JSON lines, samples of tars, and of a folder of
    images a table of their names. NEW is a file if it has an ending, as in keep.parquet; else a
    folder, which gets a file for each file of the manifest.

    \b
    Example:
      aigid filter results/ --verdict real --evidence none --out keep.parquet
      aigid filter results/ --verdict ai --drop --out kept/
      aigid filter results/ --error timeout --error missing --out again.csv

    Exit status: 0 written; 1 could not go on; 2 wrong usage. Nothing is written then.
    """
    from aigid.filtering import FilterConfig, filter_manifest

    totals = filter_manifest(FilterConfig(folder, out, **options))
    with printing("the counts", done=f"the rows are in {out}"):
        print_result(dumps(asdict(totals)) if json else _line(out, totals))


def _line(out: str, totals: "FilterTotals") -> str:
    left, failed = totals.rows - totals.written, totals.failed - totals.failed_written
    told = f"{out}: {totals.written:,} of {totals.rows:,} rows, {totals.failed_written:,} of them "
    return f"{told}with an error; left out: {left:,} rows, {failed:,} of them with an error"
