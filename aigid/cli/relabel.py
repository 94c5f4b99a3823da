"""`aigid relabel`: decide anew what the images of a finished scan are, from its scores."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.option_types import FOLDER, FRACTION, MODE
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress
from aigid.errors import UsageError

if TYPE_CHECKING:
    from aigid.results import ScanSummary

_decisions = options_under("Decisions")
_output = options_under("Output")


@click.command(
    "relabel",
    cls=Command,
    after_interrupt="no score is lost: run the same command again to continue",
)
@click.argument("folder", metavar="DIR")
@_decisions("--threshold", type=FRACTION, help="Call an image AI-generated from this p_ai on.")
@_decisions(
    "--max-fpr",
    type=FRACTION,
    help="Use the threshold that the model stores for this false-positive rate.",
)
@_decisions("--mode", type=MODE, help="Certainty of the verdicts ai and real.")
@_decisions(
    "--model",
    type=FOLDER,
    help="Model repository whose stored thresholds are used: a version with the fingerprint of the "
    "scan's model.  [default: the demo model]",
)
@_output("-o", "--out", metavar="NEW", help="Folder or URI for the new results.")
@_output("--in-place", is_flag=True, help="Change the results in DIR itself.")
@_output("--json", is_flag=True, help="Print the summary as JSON.")
def command(
    folder: str, out: str | None, in_place: bool, model: Path | None, json: bool, **options: Any
) -> None:
    """Decide anew what the images of a finished scan are, from its scores.

    DIR is the --out of a scan. The columns is_ai, source and verdict are written anew, from the
    stored scores; nothing is scored again, and neither images nor manifest are read. What no option
    names stays as it was. A scan with the new settings can go on in the relabelled folder.

    \b
    Example:
      aigid relabel results/ --out stricter/ --threshold 0.9
      aigid relabel results/ --in-place --mode balanced --model model/

    Exit status: 0 relabelled; 1 could not go on; 2 wrong usage; 130 interrupted by Ctrl-C.
    """
    from aigid.results import RelabelConfig, relabel

    if in_place == (out is not None):
        raise UsageError("give one of `out` and `in_place`")
    config = RelabelConfig(folder, out, model=model, **options)
    with shown_progress("relabel") as progress:
        summary = relabel(config, progress)
    _print_summary(summary, out or folder, as_json=json)


def _print_summary(summary: "ScanSummary", out: str, *, as_json: bool) -> None:
    with printing("the summary", done=f"the new results are in {out}"):
        if as_json:
            print_result(dumps(summary.to_json()))
            return
        from aigid.cli.summary_table import print_summary

        print_summary(summary, out)
