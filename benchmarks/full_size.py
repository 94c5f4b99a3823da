"""The gates of a build at full size: BERT-base and CLIP B/32, trained for some steps.

With random weights every probability is near the threshold, and a difference in the last bit
changes decisions. Here the classes of simulated rows have a tint each, which random weights learn
within minutes, so that probabilities are as far from the threshold as a trained model's.
"""

import io
import json
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
from aigid_command import aigid
from PIL import Image

from aigid.simulation import SimulationConfig, Split, make_row

ROOT = Path(__file__).parent.parent
TINTS = ("#808080", "#c04040", "#40b050", "#4050c0", "#c0b040", "#a040b0")
TINT_STRENGTH = 0.6
ROWS = {Split.TRAIN: 480, Split.VALIDATION: 600}
# transformers' defaults for these are the paper's encoders.
CONFIGS = {"text": {"model_type": "bert"}, "image": {"model_type": "clip_vision_model"}}
RECIPE = {
    "--epochs": 2,
    "--batch-size": 8,
    "--learning-rate": 1e-4,
    "--schedule": "one_cycle",
    # Five of six rows are AI-generated: without it, so short a run gives the constant answer.
    "--oversample-real": 5,
    "--select-by": "macro_f1",
}


def write_tinted(path: Path, split: Split, rows: int) -> Path:
    """Write a labelled manifest of simulated rows of 224 pixels, with a tint for each class."""
    config = SimulationConfig(rows, split, shorter_side=256)
    made = [make_row(config, row) for row in range(rows)]
    columns = {
        "image": [_tinted(row.image, TINTS[row.label_b]) for row in made],
        "prompt": [row.caption for row in made],
        "Label_A": pa.array([int(row.label_b > 0) for row in made], pa.int32()),
        "Label_B": pa.array([row.label_b for row in made], pa.int32()),
    }
    pq.write_table(pa.table(columns), path)
    return path


def _tinted(data: bytes, tint: str) -> bytes:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    flat, stream = Image.new("RGB", image.size, tint), io.BytesIO()
    Image.blend(image, flat, TINT_STRENGTH).save(stream, "JPEG", quality=92)
    return stream.getvalue()


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Train and build in FOLDER, with the gates that every build has.

    Exits with status 1 if a gate refuses the model. Needs about 8 GB of memory.

    Example: python benchmarks/full_size.py runs/full
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    data = {
        split: write_tinted(folder / f"{split}.parquet", split, rows)
        for split, rows in ROWS.items()
    }
    train, validation = data[Split.TRAIN], data[Split.VALIDATION]
    trained_s = aigid(
        *("train", train, "--validation", validation, "--out", folder / "run"),
        *("--text-encoder", folder / "text.json", "--image-encoder", folder / "image.json"),
        *("--tokenizer", ROOT / "model_repository/tokenizer.json"),
        *(word for item in RECIPE.items() for word in item),
    )
    print(f"aigid train: {trained_s / 60:.1f} minutes", flush=True)
    built_s = aigid(
        *("build", folder / "run/best", folder / "model"),
        *("--calibration", train, "--validation", validation),
    )
    print(f"aigid build: {built_s / 60:.1f} minutes")


if __name__ == "__main__":
    main()
