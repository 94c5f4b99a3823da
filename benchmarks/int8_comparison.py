"""Compare quantization methods: speed at the paper's sizes, and agreement of a trained model."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import click
import numpy as np
import onnxruntime as ort
from int8_methods import FP32, METHODS, SHIPPED, Feed, Method, Run
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aigid.cores import available_cores
from aigid.export import ParityReport, export_checkpoint, measure_parity
from aigid.export.parity_report import macro_f1_text
from aigid.export.sample_rows import RowSource, SampleRow, rows_for
from aigid.export.verify_parity import ModelOutputs, artifacts_of
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch
from aigid.training.checkpoint import Checkpoint, load_checkpoint
from aigid.training.labels import LabelChoice

BATCH_ROWS, TOKENS, CALIBRATION_ROWS = 32, 16, 256
LEAST_GAIN = 2.0
ENCODERS = ("clip_vision", "bert")


@dataclass(frozen=True)
class Speed:
    """Rows per second in each round, and the batch effect.

    The batch effect is how far features change with the batch, relative to their mean |value|.
    """

    rates: list[float]
    batch_effect: float


class MethodModel:
    """A trained model whose encoders were quantized with one method."""

    def __init__(self, method: Method, folder: Path, heads: Path) -> None:
        """Load the encoders in `folder`."""
        self._text, self._image = (
            method.load(folder / f"{part}.onnx", available_cores())
            for part in ("bert", "clip_vision")
        )
        self._heads = ort.InferenceSession(heads, providers=["CPUExecutionProvider"])

    def run(self, images: Pixels, tokens: TokenBatch) -> ModelOutputs:
        """Return the outputs for one batch."""
        text = self._text({"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask})
        image = self._image({"image": images})
        p_ai, p_source, known_score = self._heads.run(
            ["p_ai", "p_source", "known_score"], {"text_features": text, "image_features": image}
        )
        return ModelOutputs(text, image, p_ai[:, 0], p_source, known_score[:, 0])


def feeds_of(part: str, rows: Sequence[SampleRow]) -> list[Feed]:
    """Return the inputs of an encoder for each row."""
    if part == "clip_vision":
        return [{"image": row.image} for row in rows]
    return [
        {"input_ids": row.input_ids, "attention_mask": np.ones_like(row.input_ids)} for row in rows
    ]


def batch_of(part: str, rows: Sequence[SampleRow]) -> Feed:
    """Return one batch of many rows; prompts are cut or repeated to one length."""
    if part == "clip_vision":
        return {"image": np.concatenate([row.image for row in rows])}
    ids = np.concatenate([np.resize(row.input_ids, (1, TOKENS)) for row in rows])
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def measure_speed(
    graph: Path, part: str, rows: Sequence[SampleRow], rounds: int
) -> dict[str, Speed]:
    """Time each method's graph of one encoder; every round runs all of them in turn."""
    batch, runs = batch_of(part, rows), {}
    with tempfile.TemporaryDirectory() as temporary:
        for method in track(
            [method for method in METHODS if method.timed], f"quantizing {part}", transient=True
        ):
            target = Path(temporary, "graph.onnx")
            method.make(graph, target, feeds_of(part, rows))
            runs[method.name] = method.load(target, available_cores())
    effects = {name: batch_effect(run, batch) for name, run in runs.items()}
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in track(range(rounds), f"timing {part}", transient=True):
        for name, run in runs.items():
            start = time.perf_counter()
            run(batch)
            run(batch)
            rates[name].append(2 * BATCH_ROWS / (time.perf_counter() - start))
    return {name: Speed(rates[name], effects[name]) for name in runs}


def batch_effect(run: Run, batch: Feed, alone: int = 4) -> float:
    """Return the largest change of features between rows alone and in a batch.

    It is relative to the features' mean |value|.
    """
    together = run(batch)
    apart = np.concatenate(
        [run({name: value[row : row + 1] for name, value in batch.items()}) for row in range(alone)]
    )
    return float(np.abs(together[:alone] - apart).max() / np.abs(together).mean())


def measure_agreement(
    checkpoint: Checkpoint, calibration: str, test: str, rows: int
) -> ParityReport:
    """Compare each method's model with torch, on rows of a labelled manifest."""
    sample = list(rows_for(checkpoint, calibration, CALIBRATION_ROWS))
    with tempfile.TemporaryDirectory() as temporary:
        graphs, loaders = export_checkpoint(checkpoint, Path(temporary)), {}
        for number, method in enumerate(
            track(METHODS, "quantizing a trained model", transient=True)
        ):
            folder = Path(temporary, str(number))
            folder.mkdir()
            for part in ENCODERS:
                method.make(graphs[part], folder / f"{part}.onnx", feeds_of(part, sample))
            loaders[method.name] = partial(MethodModel, method, folder, graphs["fusion_heads"])
        labelled = RowSource(checkpoint, test, LabelChoice())
        return measure_parity(checkpoint, loaders, labelled.sample(rows))


def gains(speeds: dict[str, Speed], name: str) -> list[float]:
    """Return the speed relative to the fp32 graph, for each round."""
    return [
        rate / reference
        for rate, reference in zip(speeds[name].rates, speeds[FP32].rates, strict=True)
    ]


def speed_table(speeds: dict[str, dict[str, Speed]]) -> Table:
    """Return a table with each method's rate, gain (median, range) and batch effect by encoder."""
    table = Table("method", title=f"batches of {BATCH_ROWS}, {available_cores()} threads")
    for part in ENCODERS:
        for column in (f"{part} rows/s", "times fp32", "alone or in a batch"):
            table.add_column(column, justify="right")
    for method in METHODS:
        if method.timed:
            table.add_row(
                method.name,
                *(cell for part in ENCODERS for cell in _speed_cells(speeds[part], method.name)),
            )
    return table


def _speed_cells(speeds: dict[str, Speed], name: str) -> tuple[str, str, str]:
    gain, speed = gains(speeds, name), speeds[name]
    return (
        f"{median(speed.rates):.1f}",
        f"{median(gain):.2f} ({min(gain):.2f} to {max(gain):.2f})",
        f"{speed.batch_effect:.1e}",
    )


def agreement_table(report: ParityReport) -> Table:
    """Return a table with each method's feature differences, equal decisions and macro-F1."""
    table = Table("method", title=f"{report.model} and torch in float32, {report.rows} rows")
    for column in (
        "image features",
        "text features",
        "equal A",
        "equal B",
        "macro-F1 A, B",
        "alone or in a batch",
    ):
        table.add_column(column, justify="right")
    for name, parity in report.artifacts.items():
        features = (
            f"{one.mean / one.scale:.2%}" for one in (parity.image_features, parity.text_features)
        )
        equal = (f"{share:.2%}" for share in (parity.equal_a, parity.equal_b))
        table.add_row(
            name, *features, *equal, macro_f1_text(parity.macro_f1), f"{parity.batch:.1e}"
        )
    return table


@click.command()
@click.argument("base", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("trained", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--calibration", required=True, help="Manifest to calibrate the trained model on.")
@click.option("--test", required=True, help="Labelled manifest to compare on.")
@click.option(
    "--rows", type=click.IntRange(min=1), default=900, show_default=True, help="Rows to compare on."
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Rounds of timing."
)
def main(base: Path, trained: Path, calibration: str, test: str, rows: int, rounds: int) -> None:
    """Compare quantization methods: speed on BASE, agreement on a TRAINED checkpoint.

    BASE is the output of `base_model.py`. Exits with status 1 if the shipped method is too slow, or
    if its results depend on the batch.

    Example: python benchmarks/int8_comparison.py runs/base build/demo/checkpoint
    --calibration runs/data/simulated-validation --test runs/data/test
    """
    graphs = artifacts_of(base / "repository")["fp32"]
    sample = list(
        rows_for(
            load_checkpoint(base / "checkpoint"), str(base / "calibration.parquet"), BATCH_ROWS
        )
    )
    speeds = {part: measure_speed(graphs[part], part, sample, rounds) for part in ENCODERS}
    report = measure_agreement(load_checkpoint(trained), calibration, test, rows)
    console = Console(width=190)
    console.print(speed_table(speeds), agreement_table(report))
    shipped = {
        part: (median(gains(speeds[part], SHIPPED)), speeds[part][SHIPPED].batch_effect)
        for part in ENCODERS
    }
    missed = [part for part, (gain, effect) in shipped.items() if gain < LEAST_GAIN or effect > 0]
    for part in missed:
        gain, effect = shipped[part]
        print(
            f"{part}: {gain:.2f} times fp32 (at least {LEAST_GAIN} expected), "
            f"batch effect {effect:.1e} (0 expected)"
        )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
