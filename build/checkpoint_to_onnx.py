"""Export a checkpoint as three ONNX graphs: bert, clip_vision and fusion_heads."""

from pathlib import Path

import click
from command_line import print_sizes, shown_errors

with shown_errors():
    from aigid.export import Precision, export_checkpoint
    from aigid.training.checkpoint import load_checkpoint


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--precision",
    type=click.Choice([one.value for one in Precision]),
    default="fp32",
    show_default=True,
    help="Type that the encoders compute in.",
)
def main(checkpoint: Path, folder: Path, precision: str) -> None:
    """Export CHECKPOINT as three graphs into FOLDER.

    Example: python build/checkpoint_to_onnx.py runs/first/best graphs/
    """
    with shown_errors():
        paths = export_checkpoint(load_checkpoint(checkpoint), folder, Precision(precision))
    print_sizes({str(path): path.stat().st_size for path in paths.values()})


if __name__ == "__main__":
    main()
