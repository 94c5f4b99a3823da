"""A checkpoint to one of half the size: its weights as float16, as they are kept in git."""

from pathlib import Path

import click
from command_line import print_sizes, shown_errors

from aigid.export.checkpoint_to_half import halve_checkpoint
from aigid.training.checkpoint import WEIGHTS_FILE


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(checkpoint: Path, folder: Path) -> None:
    """Write CHECKPOINT to FOLDER with its weights in half precision.

    Example: python build/checkpoint_to_half.py runs/demo/best build/demo/checkpoint
    """
    with shown_errors():
        halve_checkpoint(checkpoint, folder)
    print_sizes({str(folder / WEIGHTS_FILE): (folder / WEIGHTS_FILE).stat().st_size})


if __name__ == "__main__":
    main()
