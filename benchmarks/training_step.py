"""Measure how much of training is forward, backward and optimizer; the rest waits for images."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from aigid.contract import ImageSpec, PromptSpec
from aigid.cores import available_cores
from aigid.progress_bar import SilentProgress
from aigid.prompts import PromptEncoder
from aigid.training.ablation import HARDENING
from aigid.training.checkpoint import CheckpointInfo, new_model
from aigid.training.config import TrainingConfig
from aigid.training.datasets import LabelledManifest
from aigid.training.optimization import Optimization
from aigid.training.row_decoder import ReadOptions
from aigid.training.training_batch import TrainingBatch

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "build" / "demo"


class WaitingTime:
    """Passes batches on, and adds up the time spent waiting for them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.rows = 0

    def through(self, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        """Yield the same batches."""
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            self.rows += len(batch.label_a)
            yield batch


def measure(
    info: CheckpointInfo, manifest: str, config: TrainingConfig, limit: int
) -> tuple[float, float]:
    """Return rows per second and the fraction of time in steps, for the first `limit` rows."""
    torch.manual_seed(0)
    prompts = PromptEncoder(ROOT / "model_repository/tokenizer.json", info.prompt)
    data = LabelledManifest([manifest], prompts, info.image, ReadOptions(threads=available_cores()))
    waiting, batches = WaitingTime(), data.batches

    def limited(*arguments: Any) -> Iterator[TrainingBatch]:
        for number, batch in enumerate(waiting.through(batches(*arguments))):
            yield batch
            if (number + 1) * config.batch_rows >= limit:
                return

    data.batches = limited  # type: ignore[method-assign]
    optimization = Optimization(new_model(info), config, data.epoch_counts(1))
    started = time.perf_counter()
    optimization.train_epoch(data, 0, SilentProgress())
    seconds = time.perf_counter() - started
    return waiting.rows / seconds, 1 - waiting.seconds / seconds


@click.command()
@click.argument("manifest", default="runs/data/train")
@click.option(
    "--rows",
    type=click.IntRange(min=64),
    default=1280,
    show_default=True,
    help="Rows to train the demo's encoders on.",
)
@click.option(
    "--base-rows",
    type=click.IntRange(min=32),
    default=128,
    show_default=True,
    help="Rows to train base-size encoders on.",
)
def main(manifest: str, rows: int, base_rows: int) -> None:
    """Train on the first rows of MANIFEST, with small and base-size encoders.

    Each is measured with and without augmentation.

    Example: python benchmarks/training_step.py runs/data/train
    """
    configs = {
        name: json.loads((DEMO / f"{name}_encoder.json").read_text()) for name in ("text", "image")
    }
    demo = CheckpointInfo("demo", "", configs["text"], configs["image"], 128)
    base = CheckpointInfo(
        "base", "", {"model_type": "bert"}, {"model_type": "clip_vision_model"}, 512
    )
    plain = TrainingConfig(batch_rows=32)
    table = Table("encoders", "images", "rows/s", "forward, backward, optimizer", title=manifest)
    for info, limit in (
        (demo, rows),
        (replace(base, image=ImageSpec(), prompt=PromptSpec()), base_rows),
    ):
        for name, config in {
            "unchanged": plain,
            "augmented": replace(plain, augmentation=HARDENING),
        }.items():
            rows_per_s, fraction = measure(info, manifest, config, limit)
            table.add_row(info.name, name, f"{rows_per_s:.1f}", f"{fraction:.1%}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
