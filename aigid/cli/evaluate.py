"""`aigid evaluate`: measure a model on labelled manifests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.label_options import label_choice, label_options
from aigid.cli.option_types import FOLDER, FRACTION
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress
from aigid.errors import UsageError

if TYPE_CHECKING:
    from aigid.training.datasets import LabelledManifest
    from aigid.training.evaluation import Evaluation, EvaluationConfig
    from aigid.training.image_changes import ImageChange
    from aigid.training.labelled_features import LabelledFeatures
    from aigid.training.labels import LabelChoice
    from aigid.training.leave_one_out import LeftOut
    from aigid.training.training_progress import TrainingProgress

_model = options_under("Model")
_output = options_under("Output")
_images = options_under("Images")
_open_set = options_under("Open set")


@click.command("evaluate", cls=Command, extra="train")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@_model("--checkpoint", type=FOLDER, help="Evaluate this torch checkpoint.")
@_model("--model", type=FOLDER, help="Evaluate this model repository.  [default: the demo model]")
@_model(
    "--threshold",
    type=FRACTION,
    default=0.5,
    show_default=True,
    help="Call an image AI-generated if its p_ai is at least this.",
)
@label_options
@_images("--unify", is_flag=True, help="Also measure on images that are re-encoded alike.")
@_images(
    "--robustness",
    is_flag=True,
    help="Also measure on images after JPEG, resizing, blur, cropping and a screenshot.",
)
@_open_set(
    "--leave-one-out",
    multiple=True,
    metavar="MANIFEST",
    help="Labelled manifest to train heads on, without each generator in turn: shows what becomes "
    "of images of a generator that nobody knows yet; repeatable.",
)
@_output("-o", "--out", type=FOLDER, help="Folder for metrics.json and the plots.")
def command(
    manifests: tuple[str, ...],
    threshold: float,
    unify: bool,
    robustness: bool,
    leave_one_out: tuple[str, ...],
    out: Path | None,
    **options: Any,
) -> None:
    """Measure a model on labelled manifests.

    A constant answer is shown beside the model's. The thresholds that the model stores for
    false-positive rates are measured too.

    \b
    Example:
      aigid evaluate data/test --out evaluation/
      aigid evaluate data/test --model model/ --robustness
      aigid evaluate data/test --checkpoint runs/first/best --leave-one-out data/train
    """
    from aigid.training.evaluation import EvaluationConfig, write_evaluation
    from aigid.training.evaluation_table import print_evaluation, print_leave_one_out

    config = EvaluationConfig(manifests, label_choice(options), threshold)
    model = _load(**options)
    train = model.open_train(leave_one_out, config.labels) if leave_one_out else None
    _make_folder(out)
    found, changes = model.measure(config), _changes(unify, robustness)
    after = {name: model.measure(replace(config, change=one)) for name, one in changes.items()}
    left_out = model.leave_one_out(config, train) if train else ()
    found = replace(found, after=after, left_out=left_out)
    if out:
        write_evaluation(found, out)
    with printing("the figures", done=f"they are in {out}" if out else ""):
        print_evaluation(found)
        if train:
            print_leave_one_out(left_out, train.name, model.encoders)
        if out:
            print_result(f"written to {out}")


def _make_folder(out: Path | None) -> None:
    """Make the folder for the results, if there is to be one, before anything is scored."""
    from aigid.storage import make_output_folder

    if out:
        make_output_folder(out)


def _changes(unified: bool, robustness: bool) -> "dict[str, ImageChange]":
    """Return the image changes to measure after, by name."""
    from aigid.training.image_changes import DEGRADATIONS, unify

    changes: dict[str, ImageChange] = {}
    if unified:
        changes["all encoded alike"] = unify
    if robustness:
        changes.update(DEGRADATIONS)
    return changes


@dataclass(frozen=True)
class _Model:
    """A loaded model: how it is evaluated, opens manifests, and makes features of their rows.

    `encoders` says whether its encoders saw the generators that `labels` name.
    """

    evaluate: "Callable[[EvaluationConfig, TrainingProgress], Evaluation]"
    open: "Callable[[tuple[str, ...], LabelChoice], LabelledManifest]"
    features: "Callable[[LabelledManifest, TrainingProgress], LabelledFeatures]"
    labels: tuple[str, ...]
    encoders: str

    def measure(self, config: "EvaluationConfig") -> "Evaluation":
        """Return the model's metrics."""
        with shown_progress("evaluate") as progress:
            return self.evaluate(config, progress)

    def open_train(self, paths: tuple[str, ...], choice: "LabelChoice") -> "LabelledManifest":
        """Open the manifest to train heads on; raises where it has too few generators."""
        from aigid.training.leave_one_out import check_generators

        train = self.open(paths, choice)
        check_generators(train.class_counts(), self.labels)
        return train

    def leave_one_out(
        self, config: "EvaluationConfig", train: "LabelledManifest"
    ) -> "tuple[LeftOut, ...]":
        """Return what heads that are trained without each generator in turn say of its rows."""
        from aigid.training.leave_one_out import leave_one_out
        from aigid.training.shared_files import warn_of_shared

        with shown_progress("evaluate") as progress:
            train_rows = self.features(train, progress)
            measured = self.open(config.paths, config.labels)
            if warning := warn_of_shared("evaluate", measured.files, train.files):
                progress.message(f"aigid: {warning}")
            rows = self.features(measured, progress)
            return leave_one_out(
                train_rows, rows, self.labels, progress, threshold=config.threshold
            )


def _load(checkpoint: Path | None, model: Path | None) -> _Model:
    from aigid.contract import find_model
    from aigid.scorers import OnnxScorer
    from aigid.training import evaluation
    from aigid.training.checkpoint import load_checkpoint
    from aigid.training.features import checkpoint_features
    from aigid.training.labelled_features import labelled_features
    from aigid.training.leave_one_out import describe_encoders
    from aigid.training.model_rows import open_for_checkpoint, open_for_repository

    if checkpoint and model:
        raise UsageError("give one of `checkpoint` and `model`, not both")
    if checkpoint:
        loaded = load_checkpoint(checkpoint)
        return _Model(
            partial(evaluation.evaluate_checkpoint, loaded),
            partial(open_for_checkpoint, loaded),
            partial(checkpoint_features, loaded.model),
            loaded.info.labels,
            describe_encoders(loaded.info.training),
        )
    repository = find_model(model)
    scorer = OnnxScorer(repository)
    if scorer.contract.notice:
        with shown_progress("evaluate") as progress:
            progress.message(scorer.contract.notice)
    return _Model(
        partial(evaluation.evaluate_repository, repository, scorer),
        partial(open_for_repository, repository, scorer.contract.labels),
        partial(labelled_features, scorer.features),
        scorer.contract.labels,
        describe_encoders({}),
    )
