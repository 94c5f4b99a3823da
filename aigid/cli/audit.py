"""`aigid audit`: measure how well file facts give away the classes of a labelled manifest."""

from json import dumps
from typing import Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.errors import print_message
from aigid.cli.label_options import label_choice, label_options
from aigid.cli.option_types import POSITIVE_INT
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import is_quiet
from aigid.records import without_secrets

_input = options_under("Input")
_output = options_under("Output")


@click.command("audit", cls=Command, extra="train")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@_input("--limit", type=POSITIVE_INT, help="Read only this many rows, from all over the manifest.")
@label_options
@_output("--json", is_flag=True, help="Print the figures as JSON.")
def command(manifests: tuple[str, ...], limit: int | None, json: bool, **labels: Any) -> None:
    """Measure how well file facts alone give away the classes of a labelled manifest.

    The facts are format, dimensions, byte size, JPEG tables and metadata. If they differ between
    the classes, a detector learns them in place of what it should learn. A ! marks accuracies well
    above chance.

    \b
    Example:
      aigid audit data/train
    """
    from aigid.training.audit import audit
    from aigid.training.audit_table import print_audit

    tell = (lambda line: None) if is_quiet() else print_message
    found = audit(manifests, limit, choice=label_choice(labels), on_message=tell)
    with printing("the audit"):
        if json:
            print_result(dumps(found.to_json()))
        else:
            print_audit(found, ", ".join(map(without_secrets, manifests)))
