"""`aigid adapt`: fit new heads to a few labelled images of one's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, Function, options_under, with_options
from aigid.cli.decision_lines import decision_lines, model_line
from aigid.cli.label_options import MODEL_LABEL_OPTIONS, label_choice
from aigid.cli.option_types import FOLDER
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress

if TYPE_CHECKING:
    from aigid.export import Adaptation
    from aigid.training.intervals import Interval

_output = options_under("Output")


def _label_options(function: Function) -> Function:
    return with_options(function, MODEL_LABEL_OPTIONS)


@click.command("adapt", cls=Command, extra="build")
@click.argument("repository", type=FOLDER, metavar="MODEL")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@_label_options
@_output(
    "-o",
    "--out",
    required=True,
    type=FOLDER,
    help="Model repository of the new model. One that exists gets a version more.",
)
@_output("--name", help="The new model's name.  [default: that of MODEL, with -adapted]")
@_output(
    "--notice",
    help="A line that is shown wherever the model is used.  [default: what it was adapted to]",
)
def command(
    repository: Path,
    manifests: tuple[str, ...],
    out: Path,
    name: str | None,
    notice: str | None,
    **options: Any,
) -> None:
    """Fit new heads to a few labelled images of one's own.

    MODEL is a model repository, whose encoders stay as they are. 10 to 1,000 rows of each class are
    enough, and minutes on a CPU. The labels are those of the rows. Five-fold cross-validation
    measures and calibrates the new model.

    \b
    Example:
      aigid adapt model/ mine.parquet --out adapted/
      aigid scan photos.parquet --model adapted/ --out results/
    """
    from aigid.contract import find_model
    from aigid.export import AdaptationConfig, adapt

    config = AdaptationConfig(
        find_model(repository, parameter="repository"),
        manifests,
        out,
        label_choice(options),
        name,
        notice,
    )
    with shown_progress("adapt") as progress:
        found = adapt(config, progress)
    with printing("the result", done=f"the model is in {out}"):
        for line in _result_lines(found, out):
            print_result(line)


def _result_lines(found: "Adaptation", out: Path) -> Iterator[str]:
    contract, metrics = found.contract, found.metrics
    yield f"{model_line(out, contract)}, labels {', '.join(contract.labels)}"
    yield from found.remarks
    yield f"cross-validated on {metrics.rows:,} rows, with 95 % intervals:"
    for name, task, constant, metric in (
        ("A balanced accuracy", metrics.a, metrics.constant.a, "balanced_accuracy"),
        ("A macro-F1", metrics.a, metrics.constant.a, "macro_f1"),
        ("B macro-F1", metrics.b, metrics.constant.b, "macro_f1"),
    ):
        interval = _interval(task.intervals.get(metric))
        yield (
            f"  {name} {_shown(getattr(task, metric))}{interval}; "
            f"a constant answer has {_shown(getattr(constant, metric))}"
        )
    if not found.uses_prompts:
        yield "the heads read the images alone: prompts did not make them better"
    yield from decision_lines(contract, found.refused, found.found_by)
    yield (
        "few rows give wide intervals, and rows of one source flatter: measure the model with "
        "aigid evaluate on rows that took no part in this"
    )


def _interval(interval: "Interval | None") -> str:
    return "" if interval is None else f" ({_shown(interval.low)} to {_shown(interval.high)})"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
