"""`aigid verify`: check a results folder, and remove what is bad in it."""

import sys
from dataclasses import asdict
from json import dumps
from typing import TYPE_CHECKING

import click

from aigid.cli.command import Command, options_under
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress

if TYPE_CHECKING:
    from aigid.results import Finding

_output = options_under("Output")
_repair = options_under("Repair")


@click.command("verify", cls=Command)
@click.argument("out", metavar="DIR")
@_repair(
    "--repair",
    is_flag=True,
    help="Remove what is bad, so that the same scan command makes it again. Files that aigid did "
    "not write stay.",
)
@_output("--json", is_flag=True, help="Print the findings as JSON.")
def command(out: str, repair: bool, json: bool) -> None:
    """Check that a results folder is whole: every row exactly once, nothing changed.

    DIR is the --out of a scan, on a disk or in an object store. Every result file is read. Without
    --repair nothing is written.

    \b
    Example:
      aigid verify results/
      aigid verify s3://bucket/results/ --repair

    Exit status: 0 all is well, or all that is bad was removed; 1 something is bad, or the result
    could not be printed; 2 wrong usage.
    """
    found, rows = _verified(out, repair)
    with printing("the findings"):
        if json:
            _print_json(found, len(rows), sum(rows))
        else:
            for finding in found:
                print_result(_line(out, finding))
            print_result(_last_line(out, found, rows, repair))
    if any(not (repair and finding.is_repairable) for finding in found):
        sys.exit(1)


def _verified(out: str, repair: bool) -> "tuple[list[Finding], list[int]]":
    """Return the findings, and the rows of each sound result file; show the progress."""
    from aigid.results import open_results, repair_results, rows_to_verify, verify_results

    results = open_results(out)
    rows: list[int] = []
    found: list[Finding] = []
    expected = rows_to_verify(results)
    with shown_progress("verify") as progress:
        progress.start(expected or 0, 0, at_least=expected is None)

        def add(more: int) -> None:
            rows.append(more)
            progress.advance(more, 0)

        for finding in (repair_results if repair else verify_results)(results, add):
            found.append(finding)
            progress.advance(0, 1)
    return found, rows


def _print_json(found: "list[Finding]", shards: int, rows: int) -> None:
    """Print the findings, and how many result files and rows are sound."""
    values = {
        "is_sound": not found,
        "sound_shards": shards,
        "sound_rows": rows,
        "findings": [asdict(finding) for finding in found],
    }
    print_result(dumps(values))


def _line(out: str, finding: "Finding") -> str:
    row = "" if finding.row is None else f", row {finding.row:,}"
    return f"{out.rstrip('/')}/{finding.file}{row}: {finding.kind}: {finding.detail}"


def _last_line(out: str, found: "list[Finding]", rows: list[int], repair: bool) -> str:
    if not found:
        from aigid.progress_bar import counted

        files = counted(len(rows), "result file")
        return f"{out}: sound: {counted(sum(rows), 'row')} in {files}"
    left = sum(not finding.is_repairable for finding in found)
    told = f"{out}: findings: {len(found):,}"
    if left:
        told += f"; not repairable: {left:,}"
    if left == len(found):
        return told
    if repair:
        return f"{told}; what is bad was removed: run the same scan again"
    return f"{told}; give --repair to remove what is bad, then run the same scan again"
