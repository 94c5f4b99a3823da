"""Build a model repository of the paper's sizes (BERT-base, CLIP B/32) with random weights.

Speed does not depend on the weights.
"""

from pathlib import Path

import click
import torch
from manifests import write_manifest

from aigid.export import PRECISIONS, BuildConfig, Limits, build_repository, report_text
from aigid.training.checkpoint import CheckpointInfo, new_model, save_checkpoint

ROOT = Path(__file__).parent.parent
ROWS = 32
# With random weights, all probabilities are near the threshold: equal decisions mean nothing.
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
    """Build FOLDER/checkpoint and FOLDER/repository.

    Example: python benchmarks/base_model.py runs/base
    """
    torch.manual_seed(0)
    # The defaults of transformers' BertConfig and CLIPVisionConfig are the paper's encoders.
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
    for name, size in built.graph_bytes.items():
        print(f"{size / 1e6:9.2f} MB  {name}")
    print(report_text(built.parity))


if __name__ == "__main__":
    main()
