"""`aigid pseudo-label`: scan unlabelled pairs and write the confident ones as a manifest."""

from typing import Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.confidence_options import confidence_options, selection_config
from aigid.cli.label_options import label_choice, label_options
from aigid.cli.scan import AFTER_INTERRUPT, progress_json_option, show_scan
from aigid.cli.scan_config import scan_config
from aigid.cli.scan_options import scan_options
from aigid.cli.stdout import print_result, printing

_output = options_under("Output")


@click.command("pseudo-label", cls=Command, after_interrupt=AFTER_INTERRUPT)
@scan_options
@_output(
    "--pseudo",
    required=True,
    metavar="DIR",
    help="Folder or URI for the manifest of pseudo-labelled pairs.",
)
@progress_json_option
@label_options
@confidence_options
def command(paths: tuple[str, ...], pseudo: str, progress_json: bool, **options: Any) -> None:
    """Scan unlabelled pairs, and keep the confident ones as a labelled manifest.

    A pair is kept where both heads are confident, and where a generator that the model knows fits.
    The new manifest holds the images, and has the columns Label_A and Label_B that training reads.
    Where the pairs have labels, the result tells how many pseudo-labels are right.

    \b
    Example:
      aigid pseudo-label unlabelled/ --out results/ --pseudo pseudo/
    """
    from aigid.progress_bar import counted
    from aigid.training.pseudo_labels import check_known_labels, write_pseudo_labels

    selection, choice = selection_config(options), label_choice(options)
    config = scan_config(paths, options)
    check_known_labels(config, choice)
    show_scan(config, progress_json)
    record = write_pseudo_labels(config, pseudo, selection, choice)
    classes = ", ".join(f"{name} {count:,}" for name, count in record.classes.items())
    kept = f"{record.kept:,} of {counted(record.rows, 'pair')} kept: {classes}"
    if record.precision is not None:
        kept += f"; {record.precision:.1%} of their pseudo-labels are right"
    if record.others:
        kept += f"; {counted(record.others, 'pair')} of other generators left out"
    with printing("the result", done=f"the manifest is in {pseudo}"):
        print_result(f"{pseudo}: {kept}")
