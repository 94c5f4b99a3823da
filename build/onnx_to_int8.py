"""An fp32 encoder to INT8 for CPUs: fused, with static activation scales, so that no row's answer depends on its batch."""

from pathlib import Path

import click
from command_line import print_sizes, shown_errors

from aigid.export.onnx_to_int8 import CALIBRATION_ROWS, quantize_graphs
from aigid.export.sample_rows import rows_for
from aigid.scorers.tensors import PARTS
from aigid.training.checkpoint import load_checkpoint


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("graphs", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--calibration", required=True, help="Manifest of image-prompt pairs like those to be scanned."
)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=CALIBRATION_ROWS,
    show_default=True,
    help="Rows to calibrate on.",
)
def main(checkpoint: Path, graphs: Path, folder: Path, calibration: str, rows: int) -> None:
    """Quantize the fp32 GRAPHS made from CHECKPOINT, and write the INT8 ones into FOLDER.

    Example: python build/onnx_to_int8.py runs/best graphs/ graphs/ --calibration data/validation.parquet
    """
    source = {part: graphs / f"{part}.fp32.onnx" for part in PARTS}
    with shown_errors():
        paths = quantize_graphs(
            source, folder, rows_for(load_checkpoint(checkpoint), calibration, rows)
        )
    print_sizes({str(path): path.stat().st_size for path in paths.values()})


if __name__ == "__main__":
    main()
