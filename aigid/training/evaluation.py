"""Evaluation of a detector on a labelled manifest: figures, a table, metrics.json and the confusion matrix as a picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from aigid.contract import TOKENIZER_FILE, ModelContract, Temperatures
from aigid.prompts import PromptEncoder
from aigid.records import SOURCES
from aigid.scorers import Scorer
from aigid.training.checkpoint import Checkpoint
from aigid.training.datasets import LabelledManifest, Reading
from aigid.training.image_changes import ImageChange
from aigid.training.inference import score_manifest
from aigid.training.metrics import Labelled, all_metrics
from aigid.training.reliability import RELIABILITY_FILE, draw_reliability, reliabilities, to_json
from aigid.training.training_progress import TrainingProgress

METRICS_FILE = "metrics.json"
CONFUSION_FILE = "confusion.png"


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    sources: tuple[str, ...],
    progress: TrainingProgress,
    *,
    threshold: float = 0.5,
    batch_rows: int = 64,
    change: ImageChange | None = None,
) -> dict[str, Any]:
    """The figures of a torch checkpoint on a labelled manifest, with its temperatures; `change` is made to every picture."""
    info = checkpoint.info
    manifest = LabelledManifest(
        sources, PromptEncoder(checkpoint.tokenizer_file, info.prompt), info.image, Reading(change)
    )
    manifest.require_truth()
    progress.start(manifest.rows, 0)
    scored = score_manifest(
        checkpoint.model, manifest, batch_rows, lambda rows: progress.advance(rows, 0)
    )
    about = {
        "model": info.name,
        "fingerprint": checkpoint.fingerprint,
        "undecodable": scored.undecodable,
    }
    return about | _figures(scored.answers(info.temperatures), threshold, info.temperatures)


def evaluate_repository(
    repository: Path,
    scorer: Scorer,
    sources: tuple[str, ...],
    progress: TrainingProgress,
    *,
    threshold: float = 0.5,
    change: ImageChange | None = None,
) -> dict[str, Any]:
    """The figures of a model repository's graphs on a labelled manifest, through the embedded scorer."""
    contract: ModelContract = scorer.contract
    prompts = PromptEncoder(repository / TOKENIZER_FILE, contract.prompt)
    manifest = LabelledManifest(sources, prompts, contract.image, Reading(change))
    manifest.require_truth()
    progress.start(manifest.rows, 0)
    parts = []
    for batch in manifest.batches(32, None):
        if len(batch.label_a):
            scores = scorer.score(batch.images, batch.tokens)
            parts.append((batch.label_a, batch.label_b, scores.p_ai, scores.p_source))
        progress.advance(len(batch.label_a) + batch.undecodable, batch.undecodable)
    label_a, label_b, p_ai, p_source = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    rows = Labelled(label_a, label_b, p_ai, p_source)
    about = {
        "model": contract.name,
        "fingerprint": contract.fingerprint,
        "undecodable": manifest.rows - len(label_a),
    }
    return about | _figures(rows, threshold, contract.temperatures)


def _figures(rows: Labelled, threshold: float, temperatures: Temperatures) -> dict[str, Any]:
    return {
        **all_metrics(rows, threshold),
        "calibration": to_json(reliabilities(rows, temperatures)),
    }


def write_evaluation(metrics: dict[str, Any], folder: Path) -> None:
    """Write metrics.json, confusion.png and reliability.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    draw_confusion(metrics["b"]["confusion"], folder / CONFUSION_FILE)
    draw_reliability(metrics["calibration"], folder / RELIABILITY_FILE)


def draw_confusion(confusion: list[list[int]], file: Path) -> None:
    """Draw a 6 x 6 confusion matrix, coloured by the share of each true class, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.array(confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the true class")
    axes.set_xticks(range(len(SOURCES)), SOURCES, rotation=30)
    axes.set_yticks(range(len(SOURCES)), SOURCES)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column,
            row,
            str(count),
            ha="center",
            va="center",
            color="white" if share[row, column] > 0.5 else "black",
        )
    figure.savefig(file, dpi=120)


def print_evaluation(metrics: dict[str, Any]) -> None:
    """Print both tasks' figures beside the constant answer's, and the confusion matrix, to stdout."""
    console = Console()
    a, b, constant = metrics["a"], metrics["b"], metrics["constant"]
    table = Table(title=f"{metrics['model']} on {metrics['rows']:,} rows", title_justify="left")
    for column in ("figure", "model", "constant answer"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, value in a.items():
        table.add_row(f"A {name}", _shown(value), _shown(constant["a"].get(name)))
    table.add_row("A calibration error", _shown(metrics["calibration"]["a"]["after"]["error"]), "-")
    for name in ("macro_f1", "accuracy"):
        table.add_row(f"B {name}", _shown(b[name]), _shown(constant["b"][name]))
    for source, value in b["f1"].items():
        table.add_row(f"B f1 {source}", _shown(value), _shown(constant["b"]["f1"][source]))
    table.add_row("B calibration error", _shown(metrics["calibration"]["b"]["after"]["error"]), "-")
    console.print(table)
    matrix = Table(title="truth (rows) by answer (columns)", title_justify="left")
    for column in ("", *SOURCES):
        matrix.add_column(column, justify="right")
    for name, counts in zip(SOURCES, b["confusion"], strict=True):
        matrix.add_row(name, *map(str, counts))
    console.print(matrix)


def print_views(metrics: dict[str, Any]) -> None:
    """Print what is left of the figures after each of `metrics["after"]`, beside those of the pictures as they are."""
    table = Table(title="pictures changed before they are looked at", title_justify="left")
    for column in ("change", "A macro_f1", "A auroc", "A tpr_at_fpr_0.01", "B macro_f1"):
        table.add_column(column, justify="left" if column == "change" else "right")
    for name, view in {"none": metrics, **metrics["after"]}.items():
        a, b = view["a"], view["b"]
        table.add_row(
            name, *map(_shown, (a["macro_f1"], a["auroc"], a["tpr_at_fpr_0.01"], b["macro_f1"]))
        )
    Console().print(table)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
