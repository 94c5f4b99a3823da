"""How well a detector does: figures that a constant answer cannot fake, beside that constant answer's own."""

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
from aigid.records import SOURCES
from aigid.scorers import Probabilities

Labels = npt.NDArray[np.int64]
FALSE_POSITIVE_RATES = (0.01, 0.001)


@dataclass(frozen=True)
class Labelled:
    """The truth and the answers for N rows: labels int [N], `p_ai` [N], `p_source` [N, 6]."""

    label_a: Labels
    label_b: Labels
    p_ai: Probabilities
    p_source: Probabilities


def all_metrics(rows: Labelled, threshold: float = 0.5) -> dict[str, Any]:
    """Every figure of both tasks, and the constant answer's; a figure that is not defined is None."""
    is_ai = decide_ai(rows.p_ai, threshold)
    source = decide_source(is_ai, rows.p_source)
    most_frequent = int(np.bincount(rows.label_b, minlength=len(SOURCES)).argmax())
    return {
        "rows": len(rows.label_a),
        "threshold": threshold,
        "a": {**_decided(rows.label_a, is_ai.astype(np.int64)), **_ranked(rows.label_a, rows.p_ai)},
        "b": _attributed(rows.label_b, source.astype(np.int64)),
        "constant": {
            "a": _decided(rows.label_a, np.ones_like(rows.label_a)),
            "b": _attributed(rows.label_b, np.full_like(rows.label_b, most_frequent)),
        },
    }


def threshold_at(label_a: Labels, p_ai: Probabilities, max_fpr: float) -> float | None:
    """The lowest threshold at which at most `max_fpr` of the real rows are called AI-generated; None without real rows."""
    real = np.sort(p_ai[label_a == 0])[::-1]
    if not len(real):
        return None
    allowed = int(max_fpr * len(real))
    if allowed >= len(real):
        return 0.0
    # Just above the first real row that must not be called AI-generated.
    return float(np.nextafter(np.float32(real[allowed]), np.float32(2)))


def _decided(truth: Labels, answer: Labels) -> dict[str, float | None]:
    both = len(np.unique(truth)) == 2
    return {
        "macro_f1": float(f1_score(truth, answer, average="macro", labels=[0, 1], zero_division=0)),
        "binary_f1": float(f1_score(truth, answer, zero_division=0)),
        "accuracy": float(np.mean(truth == answer)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, answer)) if both else None,
    }


def _ranked(truth: Labels, p_ai: Probabilities) -> dict[str, float | None]:
    names = {rate: f"tpr_at_fpr_{rate:g}" for rate in FALSE_POSITIVE_RATES}
    if len(np.unique(truth)) < 2:
        return {"auroc": None, **dict.fromkeys(names.values())}
    fpr, tpr, _ = roc_curve(truth, p_ai, drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(truth, p_ai)),
        **{name: float(tpr[fpr <= rate].max()) for rate, name in names.items()},
    }


def _attributed(truth: Labels, answer: Labels) -> dict[str, Any]:
    present = sorted(set(truth.tolist()))
    per_class = f1_score(truth, answer, average=None, labels=range(len(SOURCES)), zero_division=0)
    return {
        "macro_f1": float(np.mean(per_class[present])),
        "accuracy": float(np.mean(truth == answer)),
        "f1": {
            name: float(per_class[index]) if index in present else None
            for index, name in enumerate(SOURCES)
        },
        "confusion": confusion_matrix(truth, answer, labels=range(len(SOURCES))).tolist(),
    }
