"""`aigid build`: build a model repository from a checkpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.decision_lines import decision_lines, model_line
from aigid.cli.label_options import label_choice, label_options
from aigid.cli.option_types import FOLDER, POSITIVE_INT
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress

if TYPE_CHECKING:
    from aigid.export import BuiltRepository

# Written out here because aigid.export needs torch, which --help does not.
PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATION_ROWS, PARITY_ROWS = 256, 1000

_input = options_under("Input")
_output = options_under("Output")


@click.command("build", cls=Command, extra="build")
@click.argument("checkpoint", type=FOLDER)
@click.argument("repository", type=FOLDER)
@_input(
    "--calibration",
    required=True,
    metavar="MANIFEST",
    help="Image-prompt pairs like those to be scanned. INT8 scales are set on them.",
)
@_input(
    "--calibration-rows",
    type=POSITIVE_INT,
    default=CALIBRATION_ROWS,
    show_default=True,
    help="Rows to set INT8 scales on.",
)
@_input(
    "--validation",
    required=True,
    metavar="MANIFEST",
    help="Pairs to compare the graphs with torch on. With labels, all rows fit temperatures and "
    "thresholds anew, on the graphs that CPUs run.",
)
@_input(
    "--parity-rows",
    type=POSITIVE_INT,
    default=PARITY_ROWS,
    show_default=True,
    help="Rows of --validation to compare on, at most.",
)
@label_options
@_output(
    "--precision",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="Precision to publish; repeatable. CPUs run int8, or fp32 without it; GPUs run fp16.  "
    "[default: all]",
)
def command(checkpoint: Path, repository: Path, **options: Any) -> None:
    """Build a model repository from a checkpoint.

    The repository is what scans and servers read. A build adds a version to it. It exports the
    graphs of the model, quantizes them to INT8, fits temperatures and thresholds, and compares all
    graphs with torch. If one of them is too far from float32, the repository stays as it was.

    \b
    Example:
      aigid build runs/first/best model/ --calibration data/train --validation data/validation
    """
    from aigid.export import BuildConfig, build_repository

    precisions = options.pop("precision") or PRECISIONS
    labels = label_choice(options)
    config = BuildConfig(**options, precisions=precisions, labels=labels)
    with shown_progress("build") as progress:
        built = build_repository(checkpoint, repository, config, progress)
    with printing("the result", done=f"the repository is {repository}"):
        for line in _result_lines(built, repository):
            print_result(line)


def _result_lines(built: "BuiltRepository", repository: Path) -> Iterator[str]:
    from aigid.export import report_text

    contract, temperatures = built.contract, built.contract.temperatures
    for name, size in built.graph_bytes.items():
        yield f"{size / 1e6:9.2f} MB  {name}"
    yield from report_text(built.parity).splitlines()
    yield ""
    yield f"temperatures: head A {temperatures.a:.4g}, head B {temperatures.b:.4g}"
    yield from decision_lines(contract, built.refused, built.found_by)
    yield model_line(repository, contract)
