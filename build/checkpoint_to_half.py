"""A checkpoint to one of half the size: its weights as float16, as they are kept in git."""

from pathlib import Path

import click
from command_line import print_sizes, shown_errors

from aigid.training.checkpoint import WEIGHTS_FILE, load_checkpoint, save_checkpoint


def halve_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Write the checkpoint folder `checkpoint` to `folder` with float16 weights: another model, with its own fingerprint.

    Raises CheckpointError where `checkpoint` is damaged or not whole.
    """
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(loaded.model, loaded.info, loaded.tokenizer_file, folder, half=True)


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
