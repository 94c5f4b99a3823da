"""Store a checkpoint's weights as float16, at half the size."""

from pathlib import Path

import click
from command_line import print_sizes, shown_errors

with shown_errors():
    from aigid.export import halve_checkpoint
    from aigid.training.checkpoint import WEIGHTS_FILE


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(checkpoint: Path, folder: Path) -> None:
    """Write CHECKPOINT to FOLDER with its weights as float16.

    Example: python build/checkpoint_to_half.py runs/demo/best build/demo/checkpoint
    """
    with shown_errors():
        halve_checkpoint(checkpoint, folder)
    print_sizes({str(folder / WEIGHTS_FILE): (folder / WEIGHTS_FILE).stat().st_size})


if __name__ == "__main__":
    main()
