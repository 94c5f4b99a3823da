"""`aigid train`: train a model on labelled manifests."""

from typing import Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.stdout import print_result, printing
from aigid.cli.train_options import run_config, train_options
from aigid.cli.verbosity import shown_progress

_output = options_under("Output")


@click.command(
    "train",
    cls=Command,
    extra="train",
    after_interrupt="finished epochs stay: run the same command with --resume to go on",
)
@train_options
@_output("--resume", is_flag=True, help="Resume the run in --out after its last completed epoch.")
def command(train_manifests: tuple[str, ...], resume: bool, **options: Any) -> None:
    """Train a model on labelled manifests.

    Labels are in columns with usual names, or in those that options name. The defaults are those of
    the paper's run; --recipe recommended changes some of them.

    \b
    Example:
      aigid train data/train --validation data/validation --out runs/first
    """
    from aigid.training.run import train

    with shown_progress("train") as progress:
        config = run_config(train_manifests, options)
        best = train(config, progress, progress.message, resume=resume)
    if best:
        with printing("the result", done=f"the best checkpoint is {best}"):
            print_result(f"best checkpoint: {best}")
