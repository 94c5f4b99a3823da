"""Metrics of a detector, each beside that of a constant answer, which a detector has to beat."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve

from aigid.contract import OpenSet
from aigid.decisions import DEFAULT_THRESHOLD, decide_ai, decide_source
from aigid.records import OTHER, source_names
from aigid.scorers import Probabilities
from aigid.training.confusion_counts import (
    Counts,
    bootstrap_interval,
    count_confusion,
    f1_by_class,
    recall_by_class,
)
from aigid.training.intervals import Interval, Proportion, auroc_interval
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR

Labels = npt.NDArray[np.int64]
Intervals = Mapping[str, Interval]
"""95 % confidence intervals by the name of the metric, of those metrics that have one."""

FALSE_POSITIVE_RATES = (0.01, 0.001)


@dataclass(frozen=True)
class LabelledScores:
    """Labels (int [N]) and scores of N rows: `p_source` is [N, K], the other scores are [N].

    `label_b` is an index into the model's K `labels`, UNKNOWN_GENERATOR or OTHER_GENERATOR.
    """

    label_a: Labels
    label_b: Labels
    p_ai: Probabilities
    p_source: Probabilities
    known_score: Probabilities
    labels: tuple[str, ...]

    @property
    def in_b(self) -> npt.NDArray[np.bool_]:
        """Which rows count in task B, bool [N]: those that are real or name their generator."""
        return np.asarray(self.label_b != UNKNOWN_GENERATOR)

    @property
    def other(self) -> int:
        """The index of `other` in `source_names(labels)`."""
        return source_names(self.labels).index(OTHER)

    @property
    def sources(self) -> Labels:
        """The true sources [N], as indexes into `source_names(labels)`, of rows that count in B."""
        return np.where(self.label_b == OTHER_GENERATOR, self.other, self.label_b)


@dataclass(frozen=True)
class DecisionMetrics:
    """Metrics of task A (AI-generated or real) at one threshold.

    `fpr` is the share of real rows that are called AI-generated, `tpr` that of AI-generated rows. A
    metric is None where rows that define it are missing: `macro_f1` and `balanced_accuracy` need
    both classes, `fpr` real rows, `binary_f1` and `tpr` AI-generated ones.
    """

    macro_f1: float | None
    binary_f1: float | None
    accuracy: float
    balanced_accuracy: float | None
    fpr: float | None
    tpr: float | None
    intervals: Intervals = field(default_factory=dict, kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as they stand in metrics.json."""
        return {
            "macro_f1": self.macro_f1,
            "binary_f1": self.binary_f1,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "fpr": self.fpr,
            "tpr": self.tpr,
        }


@dataclass(frozen=True)
class DetectionMetrics(DecisionMetrics):
    """Metrics of task A at one threshold and over all thresholds.

    `tpr_at_fpr` maps each of FALSE_POSITIVE_RATES to the highest true-positive rate within it.
    It and `auroc` are None where one of the two classes has no rows.
    """

    auroc: float | None
    tpr_at_fpr: Mapping[float, float | None]
    real_rows: int
    ai_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as they stand in metrics.json."""
        rates = {f"tpr_at_fpr_{rate:g}": tpr for rate, tpr in self.tpr_at_fpr.items()}
        return {
            **super().to_json(),
            "auroc": self.auroc,
            **rates,
            "real_rows": self.real_rows,
            "ai_rows": self.ai_rows,
            "intervals": _intervals_to_json(self.intervals),
        }


@dataclass(frozen=True)
class AttributionMetrics:
    """Metrics of task B (which generator), over the `rows` rows that are real or name a generator.

    `left_out` counts the other rows: AI-generated, by a generator that is not stated. `confusion`
    counts rows by true class (outer) and predicted class (inner). Its classes are the keys of `f1`:
    the model's labels, and "other" where a row has or gets that source. A class without rows has no
    F1, and `macro_f1` is the mean of the others. All of them are None where fewer than two classes
    have rows, and `accuracy` is None without rows.
    """

    rows: int
    left_out: int
    macro_f1: float | None
    accuracy: float | None
    f1: Mapping[str, float | None]
    confusion: list[list[int]]
    intervals: Intervals = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as they stand in metrics.json."""
        return {
            "rows": self.rows,
            "left_out": {"generator not stated": self.left_out},
            "macro_f1": self.macro_f1,
            "accuracy": self.accuracy,
            "f1": dict(self.f1),
            "confusion": self.confusion,
            "intervals": _intervals_to_json(self.intervals),
        }


@dataclass(frozen=True)
class OpenSetMetrics:
    """How the model tells its own generators from others, in AI-generated rows that name theirs.

    `auroc` is that of `known_score`; None where the model's own generators or others have no rows.
    `known_as_other` is the share of the rows of its own generators whose source is "other",
    `other_as_other` that of the rows of others, and `other_as_known` the share of those that get
    the name of one of its own. The rest is called real.
    """

    auroc: float | None
    auroc_interval: Interval | None
    known_as_other: Proportion
    other_as_other: Proportion
    other_as_known: Proportion

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as they stand in metrics.json."""
        return {
            "auroc": self.auroc,
            "auroc_interval": None if self.auroc_interval is None else list(self.auroc_interval),
            "known_as_other": self.known_as_other.to_json(),
            "other_as_other": self.other_as_other.to_json(),
            "other_as_known": self.other_as_known.to_json(),
        }


@dataclass(frozen=True)
class ConstantMetrics:
    """Metrics of a constant answer: "AI-generated" in task A, the most frequent class in task B."""

    a: DecisionMetrics
    b: AttributionMetrics


@dataclass(frozen=True)
class Metrics:
    """Metrics of both tasks over `rows` rows, and those of the constant answer.

    `open_set` is None for a model that has the label "other": it has a class for other generators.
    """

    rows: int
    threshold: float
    a: DetectionMetrics
    b: AttributionMetrics
    open_set: OpenSetMetrics | None
    constant: ConstantMetrics

    def to_json(self) -> dict[str, Any]:
        """Return the metrics as they stand in metrics.json."""
        return {
            "rows": self.rows,
            "threshold": self.threshold,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "open_set": None if self.open_set is None else self.open_set.to_json(),
            "constant": {"a": self.constant.a.to_json(), "b": self.constant.b.to_json()},
        }


def compute_metrics(
    scores: LabelledScores,
    threshold: float = DEFAULT_THRESHOLD,
    open_set: OpenSet | None = None,
) -> Metrics:
    """Return the metrics of both tasks for decisions at `threshold` and those of `open_set`."""
    is_ai = decide_ai(scores.p_ai, threshold)
    source = decide_source(is_ai, scores.p_source, scores.known_score, open_set).astype(np.int64)
    truth = scores.sources[scores.in_b]
    most_frequent = np.bincount(truth).argmax() if len(truth) else 0
    always_ai = count_confusion(scores.label_a, np.ones_like(scores.label_a), 2)
    return Metrics(
        rows=len(scores.label_a),
        threshold=threshold,
        a=_detection_metrics(scores, is_ai),
        b=_attribution_metrics(scores, source[scores.in_b]),
        open_set=_open_set_metrics(scores, source),
        constant=ConstantMetrics(
            DecisionMetrics(*_decision_values(always_ai)),
            _attribution_metrics(scores, np.full_like(truth, most_frequent)),
        ),
    )


def _intervals_to_json(intervals: Intervals) -> dict[str, list[float]]:
    return {name: list(interval) for name, interval in intervals.items()}


def _decision_values(
    confusion: Counts,
) -> tuple[float | None, float | None, float, float | None, float | None, float | None]:
    """Return the metrics of task A by a confusion matrix [2, 2], in the order of the fields."""
    real, ai = confusion.sum(axis=1).tolist()
    f1, recall = f1_by_class(confusion), recall_by_class(confusion)
    return (
        float(f1.mean()) if real and ai else None,
        float(f1[1]) if ai else None,
        float(np.trace(confusion) / confusion.sum()),
        float(recall.mean()) if real and ai else None,
        float(1 - recall[0]) if real else None,
        float(recall[1]) if ai else None,
    )


def _decision_intervals(confusion: Counts) -> dict[str, Interval | None]:
    (real_right, false_alarms), (missed, ai_right) = confusion.tolist()
    real, ai = real_right + false_alarms, missed + ai_right
    found: dict[str, Interval | None] = {
        "accuracy": Proportion(real_right + ai_right, real + ai).interval,
        "fpr": Proportion(false_alarms, real).interval,
        "tpr": Proportion(ai_right, ai).interval,
    }
    if ai:
        found["binary_f1"] = bootstrap_interval(confusion, lambda draws: f1_by_class(draws)[:, 1])
    if real and ai:
        found["macro_f1"] = bootstrap_interval(confusion, lambda draws: f1_by_class(draws).mean(1))
        found["balanced_accuracy"] = bootstrap_interval(
            confusion, lambda draws: recall_by_class(draws).mean(1)
        )
    return found


def _known(intervals: Mapping[str, Interval | None]) -> Intervals:
    return {name: interval for name, interval in intervals.items() if interval is not None}


def _detection_metrics(scores: LabelledScores, is_ai: npt.NDArray[np.bool_]) -> DetectionMetrics:
    truth = scores.label_a
    confusion = count_confusion(truth, is_ai.astype(np.int64), 2)
    real, ai = confusion.sum(axis=1).tolist()
    intervals = _decision_intervals(confusion)
    auroc: float | None = None
    tpr_at_fpr: dict[float, float | None] = dict.fromkeys(FALSE_POSITIVE_RATES)
    if real and ai:
        auroc = float(roc_auc_score(truth, scores.p_ai))
        intervals["auroc"] = auroc_interval(auroc, ai, real)
        fpr, tpr, _ = roc_curve(truth, scores.p_ai, drop_intermediate=False)
        tpr_at_fpr = {rate: float(tpr[fpr <= rate].max()) for rate in FALSE_POSITIVE_RATES}
    values = _decision_values(confusion)
    return DetectionMetrics(*values, auroc, tpr_at_fpr, real, ai, intervals=_known(intervals))


def _attribution_metrics(scores: LabelledScores, predicted: Labels) -> AttributionMetrics:
    """Return the metrics of task B for the predicted sources of the rows that count in it."""
    truth = scores.sources[scores.in_b]
    names = source_names(scores.labels)
    if not ((truth == scores.other) | (predicted == scores.other)).any():
        names = scores.labels
    confusion = count_confusion(truth, predicted, len(names))
    present = confusion.sum(axis=1) > 0
    measured = present.sum() >= 2
    f1 = f1_by_class(confusion)
    right = Proportion.of(truth == predicted)
    intervals = {"accuracy": right.interval}
    if measured:
        intervals["macro_f1"] = bootstrap_interval(
            confusion, lambda draws: f1_by_class(draws)[:, present].mean(1)
        )
    return AttributionMetrics(
        rows=len(truth),
        left_out=len(scores.label_b) - len(truth),
        macro_f1=float(f1[present].mean()) if measured else None,
        accuracy=right.value,
        f1={
            name: float(f1[label]) if measured and present[label] else None
            for label, name in enumerate(names)
        },
        confusion=confusion.tolist(),
        intervals=_known(intervals),
    )


def _open_set_metrics(scores: LabelledScores, source: Labels) -> OpenSetMetrics | None:
    if OTHER in scores.labels:
        return None
    generated = scores.in_b & (scores.label_a == 1)
    of_other = generated & (scores.sources == scores.other)
    of_known = generated & ~of_other
    auroc = interval = None
    if of_known.any() and of_other.any():
        auroc = float(roc_auc_score(of_known[generated], scores.known_score[generated]))
        interval = auroc_interval(auroc, int(of_known.sum()), int(of_other.sum()))
    is_other = source == scores.other
    return OpenSetMetrics(
        auroc=auroc,
        auroc_interval=interval,
        known_as_other=Proportion.of(is_other[of_known]),
        other_as_other=Proportion.of(is_other[of_other]),
        other_as_known=Proportion.of((~is_other & (source > 0))[of_other]),
    )
