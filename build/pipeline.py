"""A checkpoint to a model repository in one command: export, quantize, compare with torch, lay out."""

from pathlib import Path
from typing import Any

import click
from command_line import print_sizes, shown_errors

from aigid.export.onnx_to_int8 import CALIBRATION_ROWS
from aigid.export.pipeline import PRECISIONS, BuildConfig, build_repository
from aigid.export.verify_parity import PARITY_ROWS, report_text

_ROWS = click.IntRange(min=1)


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repository", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--calibration", required=True, help="Manifest of image-prompt pairs like those to be scanned."
)
@click.option(
    "--rows",
    "calibration_rows",
    type=_ROWS,
    default=CALIBRATION_ROWS,
    show_default=True,
    help="To calibrate on.",
)
@click.option(
    "--parity",
    help="Manifest to compare with torch on; with labels, macro-F1 too.  [default: --calibration's]",
)
@click.option(
    "--parity-rows", type=_ROWS, default=PARITY_ROWS, show_default=True, help="To compare on."
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="Published; repeatable.  [default: all]",
)
def main(
    checkpoint: Path, repository: Path, calibration: str, parity: str | None, **options: Any
) -> None:
    """Build the next version of the model REPOSITORY of CHECKPOINT, for the embedded scorer and for Triton.

    Example: python build/pipeline.py runs/best model/ --calibration data/train.parquet --parity data/validation.parquet
    """
    with shown_errors():
        precisions = options.pop("precisions") or PRECISIONS
        config = BuildConfig(calibration, parity or calibration, precisions=precisions, **options)
        built = build_repository(checkpoint, repository, config)
    print_sizes(built.graph_bytes)
    print(report_text(built.parity))
    contract = built.contract
    print(
        f"{repository}: model {contract.name}, version {contract.version}, fingerprint {contract.fingerprint[:12]}"
    )


if __name__ == "__main__":
    main()
