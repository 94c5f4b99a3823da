"""A model repository of the paper's sizes (BERT-base, CLIP B/32) with random weights: speed does not ask what they say."""

import sys
from pathlib import Path

import click
import torch
from manifests import write_manifest

from aigid.training.checkpoint import CheckpointInfo, new_model, save_checkpoint

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "build"))

from command_line import print_sizes  # noqa: E402 - found by the line above

from aigid.export.pipeline import PRECISIONS, BuildConfig, build_repository  # noqa: E402
from aigid.export.verify_parity import Limits, report_text  # noqa: E402

ROWS = 32
# Random weights decide by a hair: nothing is to be learned from how many of their decisions stay.
NO_LIMITS = Limits(probability=None, equal_decisions=0, macro_f1_loss=None)
INFO = CheckpointInfo(
    name="base-random",
    notice="random weights: for measuring speed only",
    text_config={"model_type": "bert"},
    image_config={"model_type": "clip_vision_model"},
    fusion_hidden=512,
)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Make FOLDER/checkpoint and FOLDER/repository.

    Example: python benchmarks/base_model.py runs/base
    """
    torch.manual_seed(0)
    # The defaults of transformers' BertConfig and CLIPVisionConfig are the paper's two encoders.
    save_checkpoint(
        new_model(INFO), INFO, ROOT / "model_repository/tokenizer.json", folder / "checkpoint"
    )
    rows = str(write_manifest(folder / "calibration.parquet", ROWS))
    config = BuildConfig(
        rows,
        rows,
        calibration_rows=ROWS,
        parity_rows=ROWS,
        limits=dict.fromkeys(PRECISIONS, NO_LIMITS),
    )
    built = build_repository(folder / "checkpoint", folder / "repository", config)
    print_sizes(built.graph_bytes)
    print(report_text(built.parity))


if __name__ == "__main__":
    main()
