"""`aigid evaluate`: measure a model on labelled manifests."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.option_types import FOLDER, FRACTION
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress
from aigid.errors import UsageError

if TYPE_CHECKING:
    from aigid.training.evaluation import Evaluation
    from aigid.training.image_changes import ImageChange

    Measure = Callable[[ImageChange | None], Evaluation]

_model = options_under("Model")
_output = options_under("Output")
_images = options_under("Images")


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
@_images("--unify", is_flag=True, help="Also measure on images that are re-encoded alike.")
@_images(
    "--robustness",
    is_flag=True,
    help="Also measure on images after JPEG, resizing, blur, cropping and a screenshot.",
)
@_output(
    "-o", "--out", type=FOLDER, help="Folder for metrics.json, confusion.png and reliability.png."
)
def command(
    manifests: tuple[str, ...], unify: bool, robustness: bool, out: Path | None, **model: Any
) -> None:
    """Measure a model on labelled manifests.

    A constant answer is shown beside the model's.

    \b
    Example:
      aigid evaluate data/test --out evaluation/
      aigid evaluate data/test --model model/ --robustness
    """
    from aigid.training import evaluation

    if model["checkpoint"] and model["model"]:
        raise UsageError("give one of `checkpoint` and `model`, not both")
    measure = _measure(manifests, **model)
    found = measure(None)
    changes = _changes(unify, robustness)
    found = replace(found, after={name: measure(change) for name, change in changes.items()})
    if out:
        evaluation.write_evaluation(found, out)
    with printing("the figures", done=f"they are in {out}" if out else ""):
        evaluation.print_evaluation(found)
        if changes:
            evaluation.print_robustness(found)
        if out:
            print_result(f"written to {out}")


def _changes(unified: bool, robustness: bool) -> "dict[str, ImageChange]":
    """Return the image changes to measure after, by name."""
    from aigid.training.image_changes import DEGRADATIONS, unify

    changes: dict[str, ImageChange] = {}
    if unified:
        changes["all encoded alike"] = unify
    if robustness:
        changes.update(DEGRADATIONS)
    return changes


def _measure(
    manifests: tuple[str, ...], checkpoint: Path | None, model: Path | None, threshold: float
) -> "Measure":
    """Load the model once, and return the function that evaluates it after an image change."""
    from aigid.contract import find_model
    from aigid.scorers import OnnxScorer
    from aigid.training.checkpoint import load_checkpoint
    from aigid.training.evaluation import evaluate_checkpoint, evaluate_repository

    evaluate: Callable[..., Evaluation]
    if checkpoint:
        evaluate = partial(evaluate_checkpoint, load_checkpoint(checkpoint))
    else:
        repository = find_model(model)
        evaluate = partial(evaluate_repository, repository, OnnxScorer(repository))

    def measure(change: "ImageChange | None") -> "Evaluation":
        with shown_progress("evaluate") as progress:
            return evaluate(manifests, progress, threshold=threshold, change=change)

    return measure
