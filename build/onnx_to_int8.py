"""Quantize the fp32 graphs of a checkpoint to INT8 for CPUs."""

from pathlib import Path

import click
from command_line import print_sizes, shown_errors

from aigid.scorers import PARTS

with shown_errors():
    from aigid.export import CALIBRATION_ROWS, quantize_graphs, rows_for
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
    help="Number of rows to calibrate on.",
)
def main(checkpoint: Path, graphs: Path, folder: Path, calibration: str, rows: int) -> None:
    """Quantize the fp32 graphs of CHECKPOINT, in the folder GRAPHS, to INT8 graphs in FOLDER.

    GRAPHS is the output of build/checkpoint_to_onnx.py.

    Example: python build/onnx_to_int8.py runs/first/best graphs/ graphs/
    --calibration data/validation.parquet
    """
    with shown_errors():
        loaded = load_checkpoint(checkpoint)
        fp32 = {part: graphs / f"{part}.fp32.onnx" for part in PARTS}
        paths = quantize_graphs(fp32, folder, rows_for(loaded, calibration, rows))
    print_sizes({str(path): path.stat().st_size for path in paths.values()})


if __name__ == "__main__":
    main()
