"""Store a checkpoint's weights as float16, at half the size; checkpoints in git are kept so."""

from pathlib import Path

from aigid.training.checkpoint import load_checkpoint, save_checkpoint


def halve_checkpoint(checkpoint: Path, folder: Path) -> None:
    """Write the checkpoint folder `checkpoint` to `folder` with float16 weights.

    The result is another model, with its own fingerprint. Raises CheckpointError if `checkpoint`
    is damaged or incomplete.
    """
    loaded = load_checkpoint(checkpoint)
    save_checkpoint(loaded.model, loaded.info, loaded.tokenizer_file, folder, half=True)
