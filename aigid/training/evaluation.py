"""Evaluation of a model on labelled manifests: metrics, and what they were measured on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aigid.contract import FittedOn, OpenSet, Temperatures, Threshold
from aigid.decisions import DEFAULT_THRESHOLD
from aigid.scorers import Scorer
from aigid.storage import make_output_folder
from aigid.training.checkpoint import Checkpoint
from aigid.training.data_name import data_name
from aigid.training.datasets import LabelledManifest
from aigid.training.image_changes import ImageChange
from aigid.training.inference import TORCH, score_manifest
from aigid.training.labels import LabelChoice, RowLabels
from aigid.training.leave_one_out import LeftOut
from aigid.training.metrics import LabelledScores, Metrics, compute_metrics
from aigid.training.model_rows import open_for_checkpoint, open_for_repository
from aigid.training.operating_points import OperatingPoint, measure_thresholds
from aigid.training.plots import (
    confusion_figure,
    reliability_figure,
    roc_figure,
    save_figure,
    scores_figure,
)
from aigid.training.reliability import Calibration, measure_calibration
from aigid.training.training_progress import TrainingProgress

METRICS_FILE = "metrics.json"
CONFUSION_FILE = "confusion.png"
_BATCH_ROWS = 32


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated, and how.

    `paths` are those of labelled manifests; `labels` helps to find their labels. An image is called
    AI-generated if its `p_ai` is at least `threshold`. `change` is applied to every image first.
    """

    paths: tuple[str, ...]
    labels: LabelChoice = LabelChoice()
    threshold: float = DEFAULT_THRESHOLD
    change: ImageChange | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What an evaluation needs to know of a model; `graphs` is a precision, or TORCH."""

    name: str
    fingerprint: str
    graphs: str
    temperatures: Temperatures
    thresholds: Mapping[str, Threshold]
    open_set: OpenSet | None
    fitted_on: FittedOn | None

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint) -> "ModelFacts":
        """Return the facts of a checkpoint in torch."""
        info, fingerprint = checkpoint.info, checkpoint.fingerprint
        fitted = (info.temperatures, info.thresholds, info.open_set, info.fitted_on)
        return cls(info.name, fingerprint, TORCH, *fitted)

    @classmethod
    def of_scorer(cls, scorer: Scorer) -> "ModelFacts":
        """Return the facts of the model that a scorer has loaded."""
        contract = scorer.contract
        return cls(
            contract.name,
            contract.fingerprint,
            scorer.precision,
            contract.temperatures,
            contract.thresholds,
            contract.open_set,
            contract.fitted_on,
        )


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model on the data that `data` names.

    `row_labels` are the labels of all rows, of which `undecodable` have no scores. `points` are the
    stored thresholds on this data. `scores` are those of the other rows. `after` holds the same
    after image changes, by their names. `left_out` holds what heads without each generator say.
    """

    model: ModelFacts
    data: str
    row_labels: RowLabels
    undecodable: int
    metrics: Metrics
    calibration: Calibration
    points: tuple[OperatingPoint, ...]
    scores: LabelledScores = field(repr=False)
    after: Mapping[str, "Evaluation"] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the content of metrics.json."""
        record = {
            "model": self.model.name,
            "fingerprint": self.model.fingerprint,
            "graphs": self.model.graphs,
            "data": self.data,
            "undecodable": self.undecodable,
            "without_labels": self.row_labels.counts.left_out,
            "other_generators": dict(self.row_labels.counts.others),
            **self.metrics.to_json(),
            "calibration": self.calibration.to_json(),
            "thresholds": [point.to_json() for point in self.points],
        }
        if self.after:
            record["after"] = {name: found.to_json() for name, found in self.after.items()}
        if self.left_out:
            record["leave_one_out"] = [found.to_json() for found in self.left_out]
        return record


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    config: EvaluationConfig,
    progress: TrainingProgress,
    *,
    batch_rows: int = 64,
) -> Evaluation:
    """Evaluate a torch checkpoint at its temperatures."""
    info = checkpoint.info
    manifest = open_for_checkpoint(checkpoint, config.paths, config.labels, config.change)
    progress.start(manifest.rows, 0)
    scored = score_manifest(
        checkpoint.model, manifest, batch_rows, lambda rows: progress.advance(rows, 0)
    )
    scores = scored.calibrated(checkpoint.model, info.temperatures, info.labels)
    return _evaluation(ModelFacts.of_checkpoint(checkpoint), config, manifest, scores)


def evaluate_repository(
    repository: Path, scorer: Scorer, config: EvaluationConfig, progress: TrainingProgress
) -> Evaluation:
    """Evaluate a model repository through a scorer."""
    labels = scorer.contract.labels
    manifest = open_for_repository(repository, labels, config.paths, config.labels, config.change)
    scores = _score(scorer, manifest, progress)
    return _evaluation(ModelFacts.of_scorer(scorer), config, manifest, scores)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write metrics.json, and the plots as PNG files, into a folder.

    Raises UsageError where it cannot be written to.
    """
    make_output_folder(folder)
    text = json.dumps(evaluation.to_json(), indent=2) + "\n"
    (folder / METRICS_FILE).write_text(text, encoding="utf-8")
    metrics, scores, points = evaluation.metrics, evaluation.scores, evaluation.points
    subject = (
        f"{evaluation.model.name} ({evaluation.model.graphs}) on {evaluation.data}, "
        f"{metrics.rows:,} rows"
    )
    thresholds = {f"threshold {metrics.threshold:g}": metrics.threshold} | {
        f"for {point.max_fpr:.4g} FPR": point.threshold.p_ai for point in points
    }
    figures = {
        CONFUSION_FILE: confusion_figure(tuple(metrics.b.f1), metrics.b.confusion, subject),
        "reliability.png": reliability_figure(evaluation.calibration, subject),
        "roc.png": roc_figure(scores, points, subject),
        "scores.png": scores_figure(scores, thresholds, subject),
    }
    for name, figure in figures.items():
        save_figure(figure, folder / name)


def _score(
    scorer: Scorer, manifest: LabelledManifest, progress: TrainingProgress
) -> LabelledScores:
    progress.start(manifest.rows, 0)
    parts = []
    for batch in manifest.batches(_BATCH_ROWS, None):
        if len(batch.label_a):
            scores = scorer.score(batch.images, batch.tokens)
            found = (scores.p_ai, scores.p_source, scores.known_score)
            parts.append((batch.label_a, batch.label_b, *found))
        progress.advance(len(batch.label_a) + batch.undecodable, batch.undecodable)
    label_a, label_b, p_ai, p_source, known_score = map(np.concatenate, zip(*parts, strict=True))
    return LabelledScores(label_a, label_b, p_ai, p_source, known_score, scorer.contract.labels)


def _evaluation(
    model: ModelFacts, config: EvaluationConfig, manifest: LabelledManifest, scores: LabelledScores
) -> Evaluation:
    return Evaluation(
        model=model,
        data=data_name(config.paths),
        row_labels=manifest.row_labels,
        undecodable=manifest.rows - len(scores.label_a),
        metrics=compute_metrics(scores, config.threshold, model.open_set),
        calibration=measure_calibration(scores, model.temperatures),
        points=measure_thresholds(scores, model.thresholds),
        scores=scores,
    )
