"""`aigid calibrate`: fit a model's temperatures and thresholds anew, on labelled rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.decision_lines import decision_lines, model_line
from aigid.cli.label_options import label_choice, label_options
from aigid.cli.option_types import FOLDER, FRACTION
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress
from aigid.records import OTHER

if TYPE_CHECKING:
    from aigid.export import Recalibration

_output = options_under("Output")
_thresholds = options_under("Thresholds")


@click.command("calibrate", cls=Command, extra="build")
@click.argument("repository", type=FOLDER, metavar="MODEL")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@label_options
@_thresholds(
    "--max-fpr",
    type=FRACTION,
    multiple=True,
    metavar="RATE",
    help="Fit a threshold for this false-positive rate too; repeatable. It is refused without the "
    "real rows that it needs. 0.05, 0.01, 0.001 and the model's own are fitted if there are "
    "enough.",
)
@_thresholds(
    "--thresholds-only",
    is_flag=True,
    help="Keep temperatures and the open set: the scores stay the same, and `aigid relabel` can "
    "decide anew what the version before has scanned.",
)
@_output(
    "-o",
    "--out",
    type=FOLDER,
    help="Model repository that gets the new version.  [default: MODEL itself]",
)
def command(
    repository: Path,
    manifests: tuple[str, ...],
    max_fpr: tuple[float, ...],
    thresholds_only: bool,
    out: Path | None,
    **options: Any,
) -> None:
    """Fit a model's temperatures and thresholds anew, on labelled rows.

    MODEL is a model repository. Nothing is trained: the new version has the same encoders, and
    heads with the same weights. Use rows that the model was not trained on, like those to be
    scanned. Earlier versions stay.

    \b
    Example:
      aigid calibrate model/ data/validation
      aigid scan photos.parquet --model model/ --max-fpr 0.01 --out results/
    """
    from aigid.contract import find_model
    from aigid.export import CalibrationConfig, recalibrate

    config = CalibrationConfig(
        find_model(repository, parameter="repository"),
        manifests,
        out,
        label_choice(options),
        max_fpr,
        thresholds_only,
    )
    with shown_progress("calibrate") as progress:
        found = recalibrate(config, progress)
    with printing("the result", done=f"the new version is in {config.target}"):
        for line in _result_lines(found, config.target):
            print_result(line)


def _result_lines(found: "Recalibration", target: Path) -> Iterator[str]:
    from aigid.export import lacks_engine

    before, now = found.before, found.contract
    yield model_line(target, now)
    yield from found.remarks
    for head, old, new in (
        ("A", before.temperatures.a, now.temperatures.a),
        ("B", before.temperatures.b, now.temperatures.b),
    ):
        change = "as before" if old == new else f"before {old:.4g}"
        yield f"temperature of head {head}: {new:.4g}, {change}"
    yield from decision_lines(now, found.refused, found.found_by)
    if before.open_set is not None and now.open_set is None:
        yield f"no source is {OTHER} any more: that of the version before does not fit this one"
    if lacks_engine(target, now):
        yield (
            "the heads of the new version have no TensorRT engine yet: compile one before a GPU "
            "serves it"
        )
