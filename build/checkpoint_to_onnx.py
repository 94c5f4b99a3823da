"""A checkpoint to the three ONNX graphs of a model, bert, clip_vision and fusion_heads, in fp32 or fp16."""

from pathlib import Path

import click
from command_line import print_sizes, shown_errors

from aigid.export.checkpoint_to_onnx import Precision, export_checkpoint
from aigid.training.checkpoint import load_checkpoint


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--precision",
    type=click.Choice([one.value for one in Precision]),
    default="fp32",
    show_default=True,
)
def main(checkpoint: Path, folder: Path, precision: Precision) -> None:
    """Export CHECKPOINT as three graphs into FOLDER.

    Example: python build/checkpoint_to_onnx.py runs/best graphs/
    """
    with shown_errors():
        paths = export_checkpoint(load_checkpoint(checkpoint), folder, Precision(precision))
    print_sizes({str(path): path.stat().st_size for path in paths.values()})


if __name__ == "__main__":
    main()
