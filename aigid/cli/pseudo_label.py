"""`aigid pseudo-label`: scan unlabelled pairs and write the confident ones as a manifest."""

from typing import Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.confidence_options import confidence_options, selection_config
from aigid.cli.scan import AFTER_INTERRUPT, progress_json_option, show_scan
from aigid.cli.scan_options import scan_config, scan_options
from aigid.cli.stdout import print_result, printing

_output = options_under("Output")


@click.command("pseudo-label", cls=Command, after_interrupt=AFTER_INTERRUPT)
@scan_options
@_output(
    "--labels",
    required=True,
    metavar="DIR",
    help="Folder or URI for the manifest of pseudo-labelled pairs.",
)
@progress_json_option
@confidence_options
def command(paths: tuple[str, ...], labels: str, progress_json: bool, **options: Any) -> None:
    """Scan unlabelled pairs, and keep the confident ones as a labelled manifest.

    A pair is kept where both heads are confident. The new manifest holds the images, and has the
    columns Label_A and Label_B that training reads.

    \b
    Example:
      aigid pseudo-label unlabelled/ --out results/ --labels pseudo/
    """
    from aigid.progress_bar import counted
    from aigid.training.pseudo_labels import write_pseudo_labels

    selection = selection_config(options)
    config = scan_config(paths, options)
    show_scan(config, progress_json)
    record = write_pseudo_labels(config, labels, selection)
    classes = ", ".join(f"{name} {count:,}" for name, count in record.classes.items())
    kept = f"{record.kept:,} of {counted(record.rows, 'pair')} kept: {classes}"
    if record.precision is not None:
        kept += f"; {record.precision:.1%} of their pseudo-labels are right"
    with printing("the result", done=f"the manifest is in {labels}"):
        print_result(f"{labels}: {kept}")
