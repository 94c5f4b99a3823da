"""A checkpoint to one of half the size: its weights as float16, as they are kept in git."""

from pathlib import Path

from aigid.training.checkpoint import load_checkpoint, save_checkpoint


def halve_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Write the checkpoint folder `checkpoint` to `folder` with float16 weights: another model, with its own fingerprint.

    Raises CheckpointError where `checkpoint` is damaged or not whole.
    """
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(loaded.model, loaded.info, loaded.tokenizer_file, folder, half=True)
