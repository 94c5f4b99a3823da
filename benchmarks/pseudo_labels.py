"""What pseudo-labels are worth where pictures are not like those with labels: other JPEG qualities, other sizes."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from aigid.progress import show_progress
from aigid.sureness_options import sureness, sureness_options
from aigid.train_options import run_config, train_options
from aigid.training.ablation_table import Interval
from aigid.training.checkpoint import load_checkpoint
from aigid.training.evaluation import evaluate_checkpoint

sys.path.insert(0, str(Path(__file__).parent.parent / "build"))

from self_training import SelfTrainingConfig, self_train

QUALITIES, SCALES = (40, 60), (0.99, 1.01)
FIGURES = ("A macro-F1", "B macro-F1")


def shifted(source: str, target: Path, seed: int) -> Path:
    """Write the manifest `source` with each picture scaled by 1 % at the most and re-encoded at a JPEG quality of 40 to 60."""
    rng = np.random.default_rng(seed)
    target.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(sorted(Path(source).glob("*.parquet"))):
        table = pq.read_table(file)
        column = table.schema.get_field_index("Image")
        images = [_shifted(image, rng) for image in table["Image"].to_pylist()]
        table = table.set_column(column, "Image", pa.array(images, table.schema.field(column).type))
        pq.write_table(table, target / f"{number}.parquet", row_group_size=200)
    return target


def _shifted(image: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    picture = Image.open(io.BytesIO(image["bytes"])).convert("RGB")
    scale = rng.uniform(*SCALES)
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=int(rng.integers(QUALITIES[0], QUALITIES[1] + 1)))
    return {"bytes": stream.getvalue(), "path": image["path"]}


def figures(best: Path, manifest: Path) -> dict[str, float]:
    """Macro-F1 of both tasks."""
    with show_progress("evaluate") as progress:
        metrics = evaluate_checkpoint(load_checkpoint(best), (str(manifest),), progress)
    return dict(zip(FIGURES, (metrics["a"]["macro_f1"], metrics["b"]["macro_f1"]), strict=True))


@click.command()
@train_options
@click.option("--pool", required=True, help="Labelled manifest; its pictures are shifted, its labels only counted.")
@click.option("--test", required=True, help="Labelled manifest; its pictures are shifted too.")
@click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=1, show_default=True)
@sureness_options
def main(train_manifests: tuple[str, ...], pool: str, test: str, seeds: int, **options: Any) -> None:
    """Train on MANIFESTs alone, and with pseudo-labels of a shifted pool; measure both on a shifted test half.

    Example: python benchmarks/pseudo_labels.py runs/data/train --validation runs/data/validation --pool runs/data/pool
    --test runs/data/test --out runs/pseudo --text-encoder build/demo/text_encoder.json
    """
    sure = sureness(options)
    rounds = options.pop("rounds")
    base = run_config(train_manifests, options)
    shifted_pool = shifted(pool, base.folder / "pool", 1)
    shifted_test = shifted(test, base.folder / "test", 2)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        training = replace(base.training, seed=base.training.seed + seed)
        run = replace(base, folder=base.folder / f"seed-{seed}", training=training)
        self_train(SelfTrainingConfig(run, (str(shifted_pool),), sure, rounds), print)
        for number in range(rounds + 1):
            measured = figures(run.folder / f"round-{number}" / "best", shifted_test)
            found.setdefault(f"round {number}", []).append(measured)
            print(f"seed {seed}, round {number}: {measured}", flush=True)
    (base.folder / "figures.json").write_text(json.dumps(found, indent=2) + "\n")
    table = Table("", *FIGURES, title=f"{seeds} seeds, shifted test half: mean and 95 % confidence interval")
    for name, runs in found.items():
        table.add_row(name, *(str(Interval.of([run[column] for run in runs])) for column in FIGURES))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
