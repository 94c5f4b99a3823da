"""A model repository of the paper's sizes (BERT-base, CLIP B/32) with random weights: speed does not ask what they say."""

import subprocess
import sys
from pathlib import Path

import click
import torch
from manifests import write_manifest

from aigid.training.checkpoint import CheckpointInfo, new_model, save_checkpoint

ROOT = Path(__file__).parent.parent
CALIBRATION_ROWS = 32
INFO = CheckpointInfo(
    name="base-random",
    notice="random weights: for measuring speed only",
    text_config={"model_type": "bert"},
    image_config={"model_type": "clip_vision_model"},
    fusion_hidden=512,
)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep-fp32/--no-fp32", default=False, show_default=True, help="Whether the fp32 graphs are put beside.")
def main(folder: Path, keep_fp32: bool) -> None:
    """Make FOLDER/checkpoint and FOLDER/repository.

    Example: python benchmarks/base_model.py runs/base
    """
    torch.manual_seed(0)
    # The defaults of transformers' BertConfig and CLIPVisionConfig are the paper's two encoders.
    save_checkpoint(new_model(INFO), INFO, ROOT / "model_repository/tokenizer.json", folder / "checkpoint")
    calibration = write_manifest(folder / "calibration.parquet", CALIBRATION_ROWS)
    arguments = [folder / "checkpoint", folder / "repository", "--calibration", calibration, "--rows", CALIBRATION_ROWS]
    command = [sys.executable, ROOT / "build/pipeline.py", *arguments, "--keep-fp32" if keep_fp32 else "--no-fp32"]
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main()
