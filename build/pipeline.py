"""Build a model repository from a checkpoint: export, quantize, compare with torch, lay out."""

from pathlib import Path
from typing import Any

import click
from command_line import print_sizes, shown_errors

with shown_errors():
    from aigid.export import (
        CALIBRATION_ROWS,
        PARITY_ROWS,
        PRECISIONS,
        BuildConfig,
        build_repository,
        report_text,
    )

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
    help="Number of rows to calibrate on.",
)
@click.option(
    "--parity",
    help="Manifest to compare with torch on; if it has labels, macro-F1 is compared too.  "
    "[default: that of --calibration]",
)
@click.option(
    "--parity-rows",
    type=_ROWS,
    default=PARITY_ROWS,
    show_default=True,
    help="Number of rows to compare on.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="Precision to publish; repeatable; int8 must be among them.  [default: all]",
)
def main(
    checkpoint: Path, repository: Path, calibration: str, parity: str | None, **options: Any
) -> None:
    """Build the next version of the model REPOSITORY from CHECKPOINT.

    The embedded scorer and Triton both read the repository.

    Example: python build/pipeline.py runs/best model/ --calibration data/train.parquet
    --parity data/validation.parquet
    """
    with shown_errors():
        precisions = options.pop("precisions") or PRECISIONS
        config = BuildConfig(calibration, parity or calibration, precisions=precisions, **options)
        built = build_repository(checkpoint, repository, config)
    print_sizes(built.graph_bytes)
    print(report_text(built.parity))
    contract = built.contract
    print(
        f"{repository}: model {contract.name}, version {contract.version}, "
        f"fingerprint {contract.fingerprint[:12]}"
    )


if __name__ == "__main__":
    main()
