"""`aigid evaluate`: measure a model on labelled manifests."""

from collections.abc import Callable
from dataclasses import replace
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
    from aigid.training.evaluation import Evaluation, EvaluationConfig
    from aigid.training.image_changes import ImageChange

    Measure = Callable[[EvaluationConfig], Evaluation]

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
@label_options
@_images("--unify", is_flag=True, help="Also measure on images that are re-encoded alike.")
@_images(
    "--robustness",
    is_flag=True,
    help="Also measure on images after JPEG, resizing, blur, cropping and a screenshot.",
)
@_output("-o", "--out", type=FOLDER, help="Folder for metrics.json and the plots.")
def command(
    manifests: tuple[str, ...],
    threshold: float,
    unify: bool,
    robustness: bool,
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
    """
    from aigid.training.evaluation import EvaluationConfig, write_evaluation
    from aigid.training.evaluation_table import print_evaluation, print_robustness

    if options["checkpoint"] and options["model"]:
        raise UsageError("give one of `checkpoint` and `model`, not both")
    config = EvaluationConfig(manifests, label_choice(options), threshold)
    measure = _load(**options)
    found, changes = measure(config), _changes(unify, robustness)
    after = {name: measure(replace(config, change=change)) for name, change in changes.items()}
    found = replace(found, after=after)
    if out:
        write_evaluation(found, out)
    with printing("the figures", done=f"they are in {out}" if out else ""):
        print_evaluation(found)
        if changes:
            print_robustness(found)
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


def _load(checkpoint: Path | None, model: Path | None) -> "Measure":
    """Load the model, and return the function that evaluates it."""
    from aigid.contract import find_model
    from aigid.scorers import OnnxScorer
    from aigid.training.checkpoint import load_checkpoint
    from aigid.training.evaluation import evaluate_checkpoint, evaluate_repository

    evaluate: Callable[..., Evaluation]
    if checkpoint:
        evaluate = partial(evaluate_checkpoint, load_checkpoint(checkpoint))
    else:
        repository = find_model(model)
        scorer = OnnxScorer(repository)
        evaluate = partial(evaluate_repository, repository, scorer)
        if scorer.contract.notice:
            with shown_progress("evaluate") as progress:
                progress.message(scorer.contract.notice)

    def measure(config: "EvaluationConfig") -> "Evaluation":
        with shown_progress("evaluate") as progress:
            return evaluate(config, progress)

    return measure
