"""Rounds of pseudo-labelling in one command: train, build, scan what has no labels, keep what is sure, train afresh on both.

As in the paper (NAU-QMUL, arXiv 2602.23863), which has one round. What was done stays: the same command goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from command_line import shown_errors

from aigid.cli.confidence_options import confidence_options, sureness
from aigid.cli.train_options import run_config, train_options
from aigid.config import ScanConfig
from aigid.contract import CONTRACT_FILE
from aigid.errors import UsageError
from aigid.export.onnx_to_int8 import CALIBRATION_ROWS
from aigid.export.pipeline import BuildConfig, build_repository
from aigid.export.verify_parity import LIMITS, PARITY_ROWS, Limits
from aigid.progress_bar import show_progress
from aigid.run_scan import run_scan
from aigid.training.labelled import open_labelled
from aigid.training.pseudo_labels import write_pseudo_labels
from aigid.training.pseudo_selection import SelectionConfig
from aigid.training.run import RunConfig, train
from aigid.training.trainer import LAST

# The models between are there to label: how near their INT8 graphs are to torch is told, and no reason to stop.
_ANY = Limits(probability=None, equal_decisions=0, macro_f1_loss=None)


@dataclass(frozen=True)
class SelfTrainingConfig:
    """A recipe, whose folder will have one of each round; what to label; how sure to be; how many rounds of labelling."""

    base: RunConfig
    unlabelled: tuple[str, ...]
    sure: SelectionConfig = field(default_factory=SelectionConfig)
    rounds: int = 1


def self_train(config: SelfTrainingConfig, on_message: Callable[[str], None]) -> Path:
    """Run what is left of the rounds; gives the last one's checkpoint. Raises AigidError for what cannot be done."""
    pseudo: tuple[str, ...] = ()
    number = 0
    while True:
        folder = config.base.folder / f"round-{number}"
        # Of the labels of the last round alone: each is the judgment of a better model.
        run = replace(config.base, folder=folder, train=config.base.train + pseudo)
        with show_progress(folder.name) as progress:
            best = train(run, progress, progress.message, resume=(folder / LAST).is_dir())
        if best is None:
            raise UsageError("self-training is one process: start it without accelerate launch")
        if number == config.rounds:
            return best
        pseudo = (str(_label(config, best, folder, on_message)),)
        number += 1


def _label(
    config: SelfTrainingConfig, best: Path, folder: Path, on_message: Callable[[str], None]
) -> Path:
    """Label with a checkpoint what has no labels; gives the new manifest's folder."""
    repository, labels = folder / "model", folder / "pseudo"
    if not (repository / CONTRACT_FILE).is_file():
        rows, source = open_labelled(config.base.validation[:1]).rows, config.base.validation[0]
        few = {
            "calibration_rows": min(rows, CALIBRATION_ROWS),
            "parity_rows": min(rows, PARITY_ROWS),
        }
        build = BuildConfig(
            source, source, precisions=("int8",), limits=dict.fromkeys(LIMITS, _ANY), **few
        )
        build_repository(best, repository, build)
    scan_config = ScanConfig(config.unlabelled, str(folder / "results"), repository)
    with show_progress("label") as progress:
        run_scan(scan_config, progress, progress.message)
    record = write_pseudo_labels(scan_config, str(labels), config.sure)
    right = f", {record['precision']:.1%} of them rightly" if "precision" in record else ""
    on_message(
        f"{labels}: {record['kept']:,} of {record['rows']:,} pairs labelled{right}: {record['classes']}"
    )
    return labels


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
def main(train_manifests: tuple[str, ...], **options: Any) -> None:
    """Train on labelled MANIFESTs, label with the model what has no labels, and train again on both.

    Example: python build/self_training.py data/train --validation data/validation --unlabelled pool/ --out runs/self
    """
    with shown_errors():
        sure = sureness(options)
        own = {name: options.pop(name) for name in ("unlabelled", "rounds")}
        best = self_train(
            SelfTrainingConfig(run_config(train_manifests, options), sure=sure, **own), print
        )
        print(f"best checkpoint: {best}")


if __name__ == "__main__":
    main()
