"""What pseudo-labels are worth where pictures are not like those with labels: of other JPEG qualities, and other sizes."""

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

from aigid.cli.confidence_options import confidence_options, sureness
from aigid.cli.train_options import run_config, train_options
from aigid.contract import ImageSpec, PromptSpec
from aigid.progress_bar import show_progress
from aigid.prompts import PromptEncoder
from aigid.training.ablation_table import AblationTable, print_table
from aigid.training.checkpoint import load_checkpoint
from aigid.training.datasets import LabelledManifest
from aigid.training.evaluation import evaluate_checkpoint
from aigid.training.run import RunConfig, own_tokenizer, train
from aigid.training.trainer import LAST

sys.path.insert(0, str(Path(__file__).parent.parent / "build"))

from self_training import SelfTrainingConfig, self_train

QUALITIES = (40, 60)
AS_LONG = "round 0, as long as the last"
FIGURES = ("A macro-F1", "B macro-F1")


def re_encoded(sources: tuple[str, ...], target: Path, seed: int) -> Path:
    """Write manifests as one, with each picture re-encoded at a JPEG quality of 40 to 60."""
    rng = np.random.default_rng(seed)
    target.mkdir(parents=True, exist_ok=True)
    files = [file for source in sources for file in sorted(Path(source).glob("*.parquet"))]
    for number, file in enumerate(files):
        table = pq.read_table(file)
        column = table.schema.get_field_index("Image")
        images = [_re_encoded(image, rng) for image in table["Image"].to_pylist()]
        table = table.set_column(column, "Image", pa.array(images, table.schema.field(column).type))
        pq.write_table(table, target / f"{number}.parquet", row_group_size=200)
    return target


def _re_encoded(image: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    stream = io.BytesIO()
    quality = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
    Image.open(io.BytesIO(image["bytes"])).convert("RGB").save(stream, "JPEG", quality=quality)
    return {"bytes": stream.getvalue(), "path": image["path"]}


def figures(best: Path, manifest: Path) -> dict[str, float]:
    """Macro-F1 of both tasks."""
    with show_progress("evaluate") as progress:
        metrics = evaluate_checkpoint(load_checkpoint(best), (str(manifest),), progress)
    return dict(zip(FIGURES, (metrics["a"]["macro_f1"], metrics["b"]["macro_f1"]), strict=True))


def train_as_long(run: RunConfig, pseudo: Path) -> Path:
    """Train without pseudo-labels, for as many steps as with them; gives the best checkpoint."""
    own = rows_drawn(run.train, run)
    epochs = round(run.training.epochs * (own + rows_drawn((str(pseudo),), run)) / own)
    longer = replace(
        run, folder=run.folder / "as-long", training=replace(run.training, epochs=epochs)
    )
    with show_progress("as-long") as progress:
        best = train(longer, progress, progress.message, resume=(longer.folder / LAST).is_dir())
    assert best is not None
    return best


def rows_drawn(sources: tuple[str, ...], run: RunConfig) -> int:
    """How many rows an epoch draws of manifests."""
    prompts = PromptEncoder(run.tokenizer or own_tokenizer(run.text_encoder), PromptSpec())
    return sum(
        LabelledManifest(sources, prompts, ImageSpec()).rows_drawn(run.training.oversample_real)
    )


@click.command()
@train_options
@click.option(
    "--pool",
    multiple=True,
    required=True,
    help="Labelled manifest of other sizes; its labels are only counted.",
)
@click.option("--test", multiple=True, required=True, help="Labelled manifest of these sizes.")
@click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=1, show_default=True)
@confidence_options
def main(
    train_manifests: tuple[str, ...],
    pool: tuple[str, ...],
    test: tuple[str, ...],
    seeds: int,
    **options: Any,
) -> None:
    """Train on MANIFESTs alone, with pseudo-labels of a pool, and alone for as many steps; measure on pictures like the pool's.

    Pool and test pictures are encoded anew at JPEG qualities of 40 to 60. Example: python benchmarks/pseudo_labels.py
    data/train --validation data/validation --pool data/pool-256 --test data/test-256 --out runs/pseudo
    """
    sure = sureness(options)
    rounds = options.pop("rounds")
    base = run_config(train_manifests, options)
    shifted_pool = re_encoded(pool, base.folder / "pool", 1)
    shifted_test = re_encoded(test, base.folder / "test", 2)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        training = replace(base.training, seed=base.training.seed + seed)
        run = replace(base, folder=base.folder / f"seed-{seed}", training=training)
        self_train(SelfTrainingConfig(run, (str(shifted_pool),), sure, rounds), print)
        for number in range(rounds + 1):
            measured = figures(run.folder / f"round-{number}" / "best", shifted_test)
            found.setdefault(f"round {number}", []).append(measured)
            print(f"seed {seed}, round {number}: {measured}", flush=True)
        as_long = figures(
            train_as_long(run, run.folder / f"round-{rounds - 1}" / "pseudo"), shifted_test
        )
        found.setdefault(AS_LONG, []).append(as_long)
        print(f"seed {seed}, as long: {as_long}", flush=True)
    (base.folder / "figures.json").write_text(json.dumps(found, indent=2) + "\n")
    for recipe in ("round 0", AS_LONG):
        print(f"beside {recipe}:")
        print_table(AblationTable.of(found, recipe))


if __name__ == "__main__":
    main()
