"""Self-training: rounds of train, build, scan the unlabelled rows, keep confident ones, repeat."""

from typing import Any

import click
from command_line import shown_errors

from aigid.cli.confidence_options import confidence_options, selection_config
from aigid.cli.train_options import run_config, train_options

with shown_errors():
    from aigid.export import SelfTrainingConfig, self_train


@click.command()
@train_options
@click.option(
    "--unlabelled",
    multiple=True,
    required=True,
    help="Manifest of image-prompt pairs to label; repeatable.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How often to label and to train again.",
)
@confidence_options
def main(
    train_manifests: tuple[str, ...], unlabelled: tuple[str, ...], rounds: int, **options: Any
) -> None:
    """Train on labelled MANIFESTs, label other pairs with the model, and train again on both.

    The same command continues an interrupted run.

    Example: python build/self_training.py data/train --validation data/validation
    --unlabelled pool/ --out runs/self
    """
    with shown_errors():
        selection = selection_config(options)
        base = run_config(train_manifests, options)
        best = self_train(SelfTrainingConfig(base, unlabelled, selection, rounds), print)
        print(f"best checkpoint: {best}")


if __name__ == "__main__":
    main()
