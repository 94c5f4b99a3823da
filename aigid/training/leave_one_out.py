"""How heads treat a generator that they never saw: each is left out of their training in turn.

The encoders stay as they are. Heads are trained on most rows of a training set, and temperatures
and the open-set threshold are fitted on the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aigid.contract import Temperatures
from aigid.decisions import DEFAULT_THRESHOLD
from aigid.errors import ManifestError, UsageError
from aigid.records import OTHER
from aigid.training.calibration import fit_temperatures
from aigid.training.head_training import train_heads
from aigid.training.heads import Heads
from aigid.training.inference import score_features
from aigid.training.intervals import Proportion
from aigid.training.labelled_features import LabelledFeatures
from aigid.training.labels import OTHER_GENERATOR
from aigid.training.metrics import LabelledScores, compute_metrics
from aigid.training.open_set import FittedOpenSet, fit_open_set
from aigid.training.training_progress import TrainingProgress

# One in so many rows of each class fits temperatures and the threshold, and trains nothing.
_HELD_OUT = 5
# An open-set threshold needs two generators beside the one that is left out.
_GENERATORS_NEEDED = 3


@dataclass(frozen=True)
class LeftOut:
    """What heads that never saw a generator say of its test rows, and of the others'.

    `called_ai` is the share that is called AI-generated: without an open set, all of these get the
    name of another generator. `named` is the share that gets one in spite of it. `auroc` is that of
    the open-set score. The macro-F1 of task B is that of the classes which the heads know, without
    and with the open set. `refused` is the reason where no threshold could be fitted.
    """

    generator: str
    called_ai: Proportion
    named: Proportion
    auroc: float | None
    macro_f1: float | None
    macro_f1_with_other: float | None
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the figures as they stand in metrics.json."""
        return {
            "generator": self.generator,
            "called_ai": self.called_ai.to_json(),
            "named": self.named.to_json(),
            "auroc": self.auroc,
            "macro_f1": self.macro_f1,
            "macro_f1_with_other": self.macro_f1_with_other,
        }


def describe_encoders(training: Mapping[str, Any]) -> str:
    """Return whether encoders saw the generators, by a checkpoint's record of its training."""
    tuning = training.get("config", {}).get("encoders")
    if tuning == "frozen":
        return "the encoders were not trained on these generators: --encoders was frozen"
    if tuning is None:
        return (
            "nothing tells whether the encoders were trained on these generators; if they were, "
            "the figures are too good"
        )
    return (
        f"the encoders were trained on all of these generators (--encoders {tuning}): the figures "
        "are too good; those of frozen encoders, or of encoders that are trained anew without a "
        "generator, are not"
    )


def check_generators(rows: Sequence[int], labels: Sequence[str]) -> list[int]:
    """Return the generators that can be left out: those with rows, by the rows of each label.

    Raises as `leave_one_out` does.
    """
    if OTHER in labels:
        raise UsageError(
            f"`leave_one_out`: a model with the label {OTHER} has a class for other generators"
        )
    used = [label for label, count in enumerate(rows) if label and count]
    if len(used) < _GENERATORS_NEEDED:
        names = ", ".join(labels[label] for label in used) or "none"
        raise ManifestError(
            f"`leave_one_out` needs rows of {_GENERATORS_NEEDED} generators that the model knows: "
            f"there are rows of {names}"
        )
    return used


def leave_one_out(
    train: LabelledFeatures,
    test: LabelledFeatures,
    labels: Sequence[str],
    progress: TrainingProgress,
    *,
    threshold: float = DEFAULT_THRESHOLD,
) -> tuple[LeftOut, ...]:
    """Measure heads without each generator in turn.

    Both sets are features by the same encoders, whose `label_b` is the index into `labels`. Rows
    with a negative one do not count, since they may be of any generator. Raises ManifestError where
    fewer than three generators have training rows, and UsageError where one of the labels is
    "other".
    """
    used = check_generators(np.bincount(train.label_b[train.label_b > 0]).tolist(), labels)
    progress.start(len(train.label_b) * len(used), 0)
    found = []
    for left_out in used:
        known = [0, *(label for label in used if label != left_out)]
        heads = _fit(_with_labels(train, known), [labels[label] for label in known])
        rows = _with_labels(test, [*known, left_out])
        found.append(_measure(heads, labels[left_out], rows, threshold))
        progress.advance(len(train.label_b), 0)
    return tuple(found)


def _with_labels(rows: LabelledFeatures, labels: Sequence[int]) -> LabelledFeatures:
    """Return the rows of these labels, with `label_b` as the index into them."""
    codes = np.full(max(rows.label_b.max(initial=0), *labels) + 1, OTHER_GENERATOR)
    codes[list(labels)] = np.arange(len(labels))
    rows = rows.take(rows.label_b >= 0)
    rows = replace(rows, label_b=codes[rows.label_b])
    return rows.take(rows.label_b >= 0)


@dataclass(frozen=True)
class _Fitted:
    """Heads over `labels`, their temperatures, and when the source is "other"."""

    heads: Heads
    labels: tuple[str, ...]
    temperatures: Temperatures
    open_set: FittedOpenSet


def _fit(rows: LabelledFeatures, labels: Sequence[str]) -> _Fitted:
    held_out = _held_out(rows.label_b)
    heads = train_heads(rows.take(~held_out), len(labels))
    found = score_features(heads, rows.take(held_out))
    temperatures = fit_temperatures(found.logits, found.label_a, found.label_b)
    open_set = fit_open_set(heads, found.logits, temperatures, found.label_b, labels)
    return _Fitted(heads, tuple(labels), temperatures, open_set)


def _held_out(label_b: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which rows train nothing, bool [N]: the last ones of each class.

    Neighbouring rows may show the same scene, and stay together.
    """
    held_out = np.zeros(len(label_b), np.bool_)
    for label in np.unique(label_b):
        rows = np.flatnonzero(label_b == label)
        held_out[rows[len(rows) - len(rows) // _HELD_OUT :]] = True
    return held_out


def _measure(fitted: _Fitted, generator: str, rows: LabelledFeatures, threshold: float) -> LeftOut:
    """Return the figures of `generator`, whose label comes after those that the heads know."""
    left_out = rows.label_b == len(fitted.labels)
    rows = replace(rows, label_b=np.where(left_out, OTHER_GENERATOR, rows.label_b))
    scores = _scores(fitted, rows)
    known_rows = _scores(fitted, rows.take(~left_out))
    open_set = fitted.open_set.open_set
    with_other = compute_metrics(scores, threshold, open_set).open_set
    without = compute_metrics(scores, threshold).open_set
    # Models with the label "other" have none.
    assert with_other is not None
    assert without is not None
    return LeftOut(
        generator=generator,
        called_ai=without.other_as_known,
        named=with_other.other_as_known,
        auroc=with_other.auroc,
        macro_f1=compute_metrics(known_rows, threshold).b.macro_f1,
        macro_f1_with_other=compute_metrics(known_rows, threshold, open_set).b.macro_f1,
        refused=fitted.open_set.refused,
    )


def _scores(fitted: _Fitted, rows: LabelledFeatures) -> LabelledScores:
    found = score_features(fitted.heads, rows)
    return found.calibrated(fitted.heads, fitted.temperatures, fitted.labels)
