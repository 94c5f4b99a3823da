"""`aigid ablation`: train variants of a recipe and compare them."""

from typing import Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.stdout import print_result, printing
from aigid.cli.train_options import run_config, train_options
from aigid.cli.verbosity import shown_progress

_ablation = options_under("Ablation")

_FIELDS = {
    "test": "test_manifests",
    "seeds": "seeds",
    "variant": "variants",
    "pseudo": "pseudo",
    "robustness": "robustness",
}
"""The options of an ablation, and the fields of AblationConfig that they become."""


@click.command(
    "ablation",
    cls=Command,
    extra="train",
    after_interrupt="finished runs and epochs stay: run the same command again to go on",
)
@train_options
@_ablation(
    "--test",
    multiple=True,
    required=True,
    metavar="MANIFEST",
    help="Labelled manifest to measure on; repeatable.",
)
@_ablation(
    "--seeds",
    type=click.IntRange(min=2),
    metavar="INTEGER",
    default=3,
    show_default=True,
    help="Runs of each variant, with a seed each.",
)
@_ablation(
    "--variant",
    multiple=True,
    metavar="NAME",
    help="Run this variant only; repeatable.  [default: all]",
)
@_ablation(
    "--pseudo",
    multiple=True,
    metavar="MANIFEST",
    help="Pseudo-labelled manifest for the variant with pseudo-labels; repeatable.",
)
@_ablation(
    "--robustness",
    is_flag=True,
    help="Also measure on images after JPEG, resizing, blur, cropping and a screenshot.",
)
def command(train_manifests: tuple[str, ...], **options: Any) -> None:
    """Train variants of a recipe with several seeds, and compare them in a table.

    The training options are the base recipe, which is the variant "fusion". Each other variant
    changes what its name tells; "paper" and "recommended" change what these two recipes differ in.
    Figures are means over the seeds with 95 % confidence intervals; a second table has each
    variant's difference from the base recipe with the same seeds. Run the same command again to
    resume.

    \b
    Example:
      aigid ablation data/train --validation data/validation --test data/test --out runs/ablation
    """
    from aigid.training.ablation import AblationConfig, run_ablation
    from aigid.training.ablation_table import print_table

    settings = {field: options.pop(option) for option, field in _FIELDS.items()}
    config = AblationConfig(run_config(train_manifests, options), **settings)
    with shown_progress("train") as progress:
        table = run_ablation(config, progress, progress.message)
    folder = config.base.folder
    with printing("the table", done=f"it is in {folder}"):
        print_table(table)
        print_result(f"written to {folder}")
