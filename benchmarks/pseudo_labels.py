"""What pseudo-labels are worth on images of other JPEG qualities and sizes than the labelled."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from aigid.cli.confidence_options import confidence_options, selection_config
from aigid.cli.train_options import run_config, train_options
from aigid.contract import ImageSpec, PromptSpec
from aigid.export import SelfTrainingConfig, self_train
from aigid.progress_bar import show_progress
from aigid.prompts import PromptEncoder
from aigid.training.ablation_table import AblationTable, print_table
from aigid.training.checkpoint import load_checkpoint
from aigid.training.datasets import LabelledManifest
from aigid.training.evaluation import EvaluationConfig, evaluate_checkpoint
from aigid.training.run import RunConfig, find_tokenizer, train

QUALITIES = (40, 60)
SAME_STEPS = "round 0, as many steps"
FIGURES = ("A macro-F1", "B macro-F1")


def re_encode(paths: tuple[str, ...], target: Path, seed: int) -> Path:
    """Write manifests as one, with each image re-encoded as JPEG at a quality of 40 to 60."""
    rng = np.random.default_rng(seed)
    target.mkdir(parents=True, exist_ok=True)
    files = [file for path in paths for file in sorted(Path(path).glob("*.parquet"))]
    for number, file in enumerate(files):
        table = pq.read_table(file)
        column = table.schema.get_field_index("Image")
        images = [_re_encode_image(image, rng) for image in table["Image"].to_pylist()]
        table = table.set_column(column, "Image", pa.array(images, table.schema.field(column).type))
        pq.write_table(table, target / f"{number}.parquet", row_group_size=200)
    return target


def _re_encode_image(image: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    stream = io.BytesIO()
    quality = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
    Image.open(io.BytesIO(image["bytes"])).convert("RGB").save(stream, "JPEG", quality=quality)
    return {"bytes": stream.getvalue(), "path": image["path"]}


def measure(checkpoint: Path, manifest: Path) -> dict[str, float]:
    """Return the macro-F1 of both tasks."""
    with show_progress("evaluate") as progress:
        config = EvaluationConfig((str(manifest),))
        metrics = evaluate_checkpoint(load_checkpoint(checkpoint), config, progress).metrics
    macro_f1 = (metrics.a.macro_f1 or 0.0, metrics.b.macro_f1 or 0.0)
    return dict(zip(FIGURES, macro_f1, strict=True))


def train_as_many_steps(run: RunConfig, pseudo: Path) -> Path:
    """Train without pseudo-labels for as many steps as with them; return the best checkpoint."""
    own = epoch_rows(run.train, run)
    epochs = round(run.training.epochs * (own + epoch_rows((str(pseudo),), run)) / own)
    longer = replace(
        run, folder=run.folder / "as-long", training=replace(run.training, epochs=epochs)
    )
    with show_progress("as-long") as progress:
        best = train(longer, progress, progress.message, resume=True)
    assert best is not None
    return best


def epoch_rows(paths: tuple[str, ...], run: RunConfig) -> int:
    """Return the number of rows in an epoch over manifests, with real rows oversampled."""
    prompts = PromptEncoder(run.tokenizer or find_tokenizer(run.text_encoder), PromptSpec())
    manifest = LabelledManifest(paths, prompts, ImageSpec())
    return manifest.epoch_counts(run.training.oversample_real).rows


def measure_seed(config: SelfTrainingConfig, seed: int, test: Path) -> dict[str, dict[str, float]]:
    """Run self-training and the longer training with one seed; return the figures by variant."""
    base, rounds = config.base, config.rounds
    training = replace(base.training, seed=base.training.seed + seed)
    run = replace(base, folder=base.folder / f"seed-{seed}", training=training)
    self_train(replace(config, base=run), print)
    checkpoints = {
        f"round {number}": run.folder / f"round-{number}" / "best" for number in range(rounds + 1)
    }
    pseudo = run.folder / f"round-{rounds - 1}" / "pseudo"
    checkpoints[SAME_STEPS] = train_as_many_steps(run, pseudo)
    found = {}
    for name, checkpoint in checkpoints.items():
        found[name] = measure(checkpoint, test)
        print(f"seed {seed}, {name}: {found[name]}", flush=True)
    return found


@click.command()
@train_options
@click.option(
    "--pool",
    multiple=True,
    required=True,
    help="Manifest to pseudo-label, with images of other sizes; its labels are only compared.",
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
    """Compare training on MANIFESTs with and without pseudo-labels of a pool.

    Without pseudo-labels, it trains once for the same epochs and once for as many steps. Pool and
    test images are re-encoded at JPEG qualities of 40 to 60, and the test images measure all.

    Example: python benchmarks/pseudo_labels.py data/train --validation data/validation
    --pool data/pool-256 --test data/test-256 --out runs/pseudo
    """
    selection, rounds = selection_config(options), options.pop("rounds")
    base = run_config(train_manifests, options)
    re_encoded_pool = re_encode(pool, base.folder / "pool", 1)
    re_encoded_test = re_encode(test, base.folder / "test", 2)
    config = SelfTrainingConfig(base, (str(re_encoded_pool),), selection, rounds)
    by_seed = [measure_seed(config, seed, re_encoded_test) for seed in range(seeds)]
    found = {name: [figures[name] for figures in by_seed] for name in by_seed[0]}
    (base.folder / "figures.json").write_text(json.dumps(found, indent=2) + "\n")
    for recipe in ("round 0", SAME_STEPS):
        print(f"compared with {recipe}:")
        print_table(AblationTable.of(found, recipe))


if __name__ == "__main__":
    main()
