"""Evaluation of a detector on labelled manifests: metrics, tables, metrics.json and two plots."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from aigid.contract import TOKENIZER_FILE, ImageSpec
from aigid.prompts import PromptEncoder
from aigid.records import DEFAULT_LABELS
from aigid.scorers import Scorer
from aigid.training.checkpoint import Checkpoint
from aigid.training.datasets import LabelledManifest
from aigid.training.image_changes import ImageChange
from aigid.training.inference import score_manifest
from aigid.training.metrics import LabelledScores, Metrics, compute_metrics
from aigid.training.reliability import (
    RELIABILITY_FILE,
    Calibration,
    draw_reliability,
    measure_calibration,
)
from aigid.training.row_decoder import ReadOptions
from aigid.training.training_progress import TrainingProgress

METRICS_FILE = "metrics.json"
CONFUSION_FILE = "confusion.png"
_BATCH_ROWS = 32


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model. `after` holds the same after image changes, by their names."""

    model: str
    fingerprint: str
    undecodable: int
    metrics: Metrics
    calibration: Calibration
    after: Mapping[str, "Evaluation"] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        record = {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "undecodable": self.undecodable,
            **self.metrics.to_json(),
            "calibration": self.calibration.to_json(),
        }
        if self.after:
            record["after"] = {name: found.to_json() for name, found in self.after.items()}
        return record


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    paths: tuple[str, ...],
    progress: TrainingProgress,
    *,
    threshold: float = 0.5,
    batch_rows: int = 64,
    change: ImageChange | None = None,
) -> Evaluation:
    """Evaluate a torch checkpoint at its temperatures; `change` is applied to every image first."""
    info = checkpoint.info
    prompts = PromptEncoder(checkpoint.tokenizer_file, info.prompt)
    manifest = _open(paths, prompts, info.image, change)
    progress.start(manifest.rows, 0)
    scored = score_manifest(
        checkpoint.model, manifest, batch_rows, lambda rows: progress.advance(rows, 0)
    )
    scores = scored.calibrated(info.temperatures)
    return Evaluation(
        model=info.name,
        fingerprint=checkpoint.fingerprint,
        undecodable=scored.undecodable,
        metrics=compute_metrics(scores, threshold),
        calibration=measure_calibration(scores, info.temperatures),
    )


def evaluate_repository(
    repository: Path,
    scorer: Scorer,
    paths: tuple[str, ...],
    progress: TrainingProgress,
    *,
    threshold: float = 0.5,
    change: ImageChange | None = None,
) -> Evaluation:
    """Evaluate a model repository through a scorer; `change` is applied to every image first."""
    contract = scorer.contract
    prompts = PromptEncoder(repository / TOKENIZER_FILE, contract.prompt)
    manifest = _open(paths, prompts, contract.image, change)
    scores = _score(scorer, manifest, progress)
    return Evaluation(
        model=contract.name,
        fingerprint=contract.fingerprint,
        undecodable=manifest.rows - len(scores.label_a),
        metrics=compute_metrics(scores, threshold),
        calibration=measure_calibration(scores, contract.temperatures),
    )


def _open(
    paths: tuple[str, ...], prompts: PromptEncoder, image: ImageSpec, change: ImageChange | None
) -> LabelledManifest:
    manifest = LabelledManifest(paths, prompts, image, ReadOptions(change))
    manifest.reject_pseudo_labels()
    return manifest


def _score(
    scorer: Scorer, manifest: LabelledManifest, progress: TrainingProgress
) -> LabelledScores:
    progress.start(manifest.rows, 0)
    parts = []
    for batch in manifest.batches(_BATCH_ROWS, None):
        if len(batch.label_a):
            scores = scorer.score(batch.images, batch.tokens)
            parts.append((batch.label_a, batch.label_b, scores.p_ai, scores.p_source))
        progress.advance(len(batch.label_a) + batch.undecodable, batch.undecodable)
    return LabelledScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, confusion.png and reliability.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluation.to_json(), indent=2) + "\n"
    (folder / METRICS_FILE).write_text(text, encoding="utf-8")
    draw_confusion(evaluation.metrics.b.confusion, folder / CONFUSION_FILE)
    draw_reliability(evaluation.calibration, folder / RELIABILITY_FILE)


def draw_confusion(confusion: list[list[int]], file: Path) -> None:
    """Draw a 6 x 6 confusion matrix as a PNG, each row coloured by its own total."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.array(confusion)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    drawn = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(drawn, label="fraction of the true class")
    axes.set_xticks(range(len(DEFAULT_LABELS)), DEFAULT_LABELS, rotation=30)
    axes.set_yticks(range(len(DEFAULT_LABELS)), DEFAULT_LABELS)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if fractions[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    figure.savefig(file, dpi=120)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the metrics beside the constant answer's, and the confusion matrix, to stdout."""
    console = Console()
    console.print(_metrics_table(evaluation))
    matrix = Table(title="true class (rows) by predicted class (columns)", title_justify="left")
    for column in ("", *DEFAULT_LABELS):
        matrix.add_column(column, justify="right")
    for name, counts in zip(DEFAULT_LABELS, evaluation.metrics.b.confusion, strict=True):
        matrix.add_row(name, *map(str, counts))
    console.print(matrix)


def _metrics_table(evaluation: Evaluation) -> Table:
    metrics, calibration = evaluation.metrics, evaluation.calibration
    b, constant_b = metrics.b, metrics.constant.b
    constant_a = metrics.constant.a.to_json()
    table = Table(title=f"{evaluation.model} on {metrics.rows:,} rows", title_justify="left")
    table.add_column("metric")
    for column in ("model", "constant answer"):
        table.add_column(column, justify="right")
    for name, value in metrics.a.to_json().items():
        table.add_row(f"A {name}", _shown(value), _shown(constant_a.get(name)))
    table.add_row("A calibration error", _shown(calibration.a.after.error), "-")
    table.add_row("B macro_f1", _shown(b.macro_f1), _shown(constant_b.macro_f1))
    table.add_row("B accuracy", _shown(b.accuracy), _shown(constant_b.accuracy))
    for name, value in b.f1.items():
        table.add_row(f"B f1 {name}", _shown(value), _shown(constant_b.f1[name]))
    table.add_row("B calibration error", _shown(calibration.b.after.error), "-")
    return table


def print_robustness(evaluation: Evaluation) -> None:
    """Print the metrics after each image change, below those of the unchanged images."""
    table = Table(title="metrics after image changes", title_justify="left")
    for column in ("change", "A macro_f1", "A auroc", "A tpr_at_fpr_0.01", "B macro_f1"):
        table.add_column(column, justify="left" if column == "change" else "right")
    for name, found in {"none": evaluation, **evaluation.after}.items():
        a, b = found.metrics.a, found.metrics.b
        values = (a.macro_f1, a.auroc, a.tpr_at_fpr[0.01], b.macro_f1)
        table.add_row(name, *map(_shown, values))
    Console().print(table)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
