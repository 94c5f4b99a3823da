"""Metrics of a detector, each beside that of a constant answer, which a detector has to beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
    roc_curve,
)

from aigid.decisions import decide_ai, decide_source
from aigid.records import DEFAULT_LABELS
from aigid.scorers import Probabilities

Labels = npt.NDArray[np.int64]
FALSE_POSITIVE_RATES = (0.01, 0.001)


@dataclass(frozen=True)
class LabelledScores:
    """Labels and probabilities of N rows: labels int [N], `p_ai` [N], `p_source` [N, 6]."""

    label_a: Labels
    label_b: Labels
    p_ai: Probabilities
    p_source: Probabilities


@dataclass(frozen=True)
class DecisionMetrics:
    """Metrics of task A (AI-generated or real) at one threshold.

    `balanced_accuracy` is None where one of the two classes has no rows.
    """

    macro_f1: float
    binary_f1: float
    accuracy: float
    balanced_accuracy: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return the metrics as they stand in metrics.json."""
        return {
            "macro_f1": self.macro_f1,
            "binary_f1": self.binary_f1,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
        }


@dataclass(frozen=True)
class DetectionMetrics(DecisionMetrics):
    """Metrics of task A at one threshold and over all thresholds.

    `tpr_at_fpr` maps each of FALSE_POSITIVE_RATES to the highest true-positive rate within it.
    It and `auroc` are None where one of the two classes has no rows.
    """

    auroc: float | None
    tpr_at_fpr: Mapping[float, float | None]

    def to_json(self) -> dict[str, float | None]:
        """Return the metrics as they stand in metrics.json."""
        rates = {f"tpr_at_fpr_{rate:g}": tpr for rate, tpr in self.tpr_at_fpr.items()}
        return {**super().to_json(), "auroc": self.auroc, **rates}


@dataclass(frozen=True)
class AttributionMetrics:
    """Metrics of task B (which generator).

    `f1` maps each class to its F1, or None where the class has no rows; `macro_f1` is the mean of
    the others. `confusion` counts rows by true class (outer) and predicted class (inner).
    """

    macro_f1: float
    accuracy: float
    f1: Mapping[str, float | None]
    confusion: list[list[int]]

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as they stand in metrics.json."""
        return {
            "macro_f1": self.macro_f1,
            "accuracy": self.accuracy,
            "f1": dict(self.f1),
            "confusion": self.confusion,
        }


@dataclass(frozen=True)
class ConstantMetrics:
    """Metrics of a constant answer: "AI-generated" in task A, the most frequent class in task B."""

    a: DecisionMetrics
    b: AttributionMetrics


@dataclass(frozen=True)
class Metrics:
    """Metrics of both tasks over `rows` rows, and those of the constant answer."""

    rows: int
    threshold: float
    a: DetectionMetrics
    b: AttributionMetrics
    constant: ConstantMetrics

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as they stand in metrics.json."""
        return {
            "rows": self.rows,
            "threshold": self.threshold,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "constant": {"a": self.constant.a.to_json(), "b": self.constant.b.to_json()},
        }


def compute_metrics(scores: LabelledScores, threshold: float = 0.5) -> Metrics:
    """Return the metrics of both tasks for decisions at `threshold`."""
    is_ai = decide_ai(scores.p_ai, threshold)
    source = decide_source(is_ai, scores.p_source, scores.p_ai, None)
    most_frequent = int(np.bincount(scores.label_b, minlength=len(DEFAULT_LABELS)).argmax())
    return Metrics(
        rows=len(scores.label_a),
        threshold=threshold,
        a=_detection_metrics(scores, is_ai.astype(np.int64)),
        b=_attribution_metrics(scores.label_b, source.astype(np.int64)),
        constant=ConstantMetrics(
            DecisionMetrics(*_decision_values(scores.label_a, np.ones_like(scores.label_a))),
            _attribution_metrics(scores.label_b, np.full_like(scores.label_b, most_frequent)),
        ),
    )


def threshold_at(label_a: Labels, p_ai: Probabilities, max_fpr: float) -> float | None:
    """Return the lowest threshold whose false-positive rate is at most `max_fpr`.

    None without real rows.
    """
    real = np.sort(p_ai[label_a == 0])[::-1]
    if not len(real):
        return None
    allowed = int(max_fpr * len(real))
    if allowed >= len(real):
        return 0.0
    # Just above the first real row that must not be called AI-generated.
    return float(np.nextafter(np.float32(real[allowed]), np.float32(2)))


def _decision_values(truth: Labels, predicted: Labels) -> tuple[float, float, float, float | None]:
    both_classes = len(np.unique(truth)) == 2
    return (
        float(f1_score(truth, predicted, average="macro", labels=[0, 1], zero_division=0)),
        float(f1_score(truth, predicted, zero_division=0)),
        float(np.mean(truth == predicted)),
        float(balanced_accuracy_score(truth, predicted)) if both_classes else None,
    )


def _detection_metrics(scores: LabelledScores, predicted: Labels) -> DetectionMetrics:
    truth = scores.label_a
    decisions = _decision_values(truth, predicted)
    if len(np.unique(truth)) < 2:
        return DetectionMetrics(*decisions, None, dict.fromkeys(FALSE_POSITIVE_RATES))
    fpr, tpr, _ = roc_curve(truth, scores.p_ai, drop_intermediate=False)
    tpr_at_fpr = {rate: float(tpr[fpr <= rate].max()) for rate in FALSE_POSITIVE_RATES}
    return DetectionMetrics(*decisions, float(roc_auc_score(truth, scores.p_ai)), tpr_at_fpr)


def _attribution_metrics(truth: Labels, predicted: Labels) -> AttributionMetrics:
    classes = range(len(DEFAULT_LABELS))
    present = sorted(set(truth.tolist()))
    per_class = f1_score(truth, predicted, average=None, labels=classes, zero_division=0)
    return AttributionMetrics(
        macro_f1=float(np.mean(per_class[present])),
        accuracy=float(np.mean(truth == predicted)),
        f1={
            name: float(per_class[label]) if label in present else None
            for label, name in enumerate(DEFAULT_LABELS)
        },
        confusion=confusion_matrix(truth, predicted, labels=classes).tolist(),
    )
