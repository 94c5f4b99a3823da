"""Calibration error and reliability, before and after temperature scaling.

Source: Guo et al., On Calibration of Modern Neural Networks (2017): bins of equal width, weighted
by their rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aigid.contract import Temperatures
from aigid.scorers import Probabilities
from aigid.training.intervals import Interval, Proportion
from aigid.training.metrics import LabelledScores

BINS = 15
_TINY = 1e-12


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Predicted probabilities in bins; float64 [BINS] each.

    `rows` counts the rows of each bin, `predicted` is their mean probability, and `observed` the
    fraction of them where the prediction came true.
    """

    rows: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    observed: npt.NDArray[np.float64]

    @property
    def error(self) -> float | None:
        """The expected calibration error; None without rows."""
        total = self.rows.sum()
        gaps = np.abs(self.predicted - self.observed)
        return float((self.rows * gaps).sum() / total) if total else None

    @property
    def intervals(self) -> npt.NDArray[np.float64]:
        """The 95 % intervals of `observed`, float64 [2, BINS]; NaN for bins without rows."""
        counts = np.rint(self.observed * self.rows).astype(np.int64).tolist()
        found = (
            Proportion(count, rows).interval or Interval(np.nan, np.nan)
            for count, rows in zip(counts, self.rows.astype(np.int64).tolist(), strict=True)
        )
        return np.array(list(found)).T

    def to_json(self) -> dict[str, Any]:
        """Return the diagram as it stands in metrics.json."""
        return {
            "error": self.error,
            "rows": self.rows.tolist(),
            "predicted": self.predicted.tolist(),
            "observed": self.observed.tolist(),
        }


@dataclass(frozen=True)
class TaskCalibration:
    """The reliability of one task without the model's temperature (`before`) and with it."""

    before: ReliabilityDiagram
    after: ReliabilityDiagram

    def to_json(self) -> dict[str, Any]:
        """Return both diagrams as they stand in metrics.json."""
        return {"before": self.before.to_json(), "after": self.after.to_json()}


@dataclass(frozen=True)
class Calibration:
    """The reliability of both tasks; task B counts AI-generated rows of known generators only."""

    a: TaskCalibration
    b: TaskCalibration

    def to_json(self) -> dict[str, Any]:
        """Return the diagrams as they stand in metrics.json."""
        return {"a": self.a.to_json(), "b": self.b.to_json()}


def reliability_diagram(
    predicted: Probabilities, came_true: npt.NDArray[np.bool_]
) -> ReliabilityDiagram:
    """Return how N probabilities [N] compare with what came true [N]."""
    bins = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(bins, minlength=BINS).astype(np.float64)
    mean_predicted, observed = (
        np.bincount(bins, weights=values.astype(np.float64), minlength=BINS) / np.maximum(rows, 1)
        for values in (predicted, came_true)
    )
    return ReliabilityDiagram(rows, mean_predicted, observed)


def measure_calibration(scores: LabelledScores, temperatures: Temperatures) -> Calibration:
    """Return the reliability of scores with the temperatures they were made with, and without.

    Task B compares the probability of the likeliest generator with how often it is the right one.
    """
    generated = scores.label_a == 1
    known = scores.label_b > 0
    generators = scores.p_source[known, 1:].astype(np.float64)
    generators /= np.maximum(generators.sum(axis=1, keepdims=True), _TINY)
    truth = scores.label_b[known] - 1

    def diagram_a(temperature: float) -> ReliabilityDiagram:
        return reliability_diagram(_uncalibrated_a(scores.p_ai, temperature), generated)

    def diagram_b(temperature: float) -> ReliabilityDiagram:
        p_generator = _uncalibrated_b(generators, temperature)
        right = p_generator.argmax(axis=1) == truth
        return reliability_diagram(p_generator.max(axis=1, initial=0.0), right)

    return Calibration(
        TaskCalibration(before=diagram_a(temperatures.a), after=diagram_a(1.0)),
        TaskCalibration(before=diagram_b(temperatures.b), after=diagram_b(1.0)),
    )


def _uncalibrated_a(p_ai: Probabilities, temperature: float) -> Probabilities:
    """Undo the division of head A's logit by `temperature`."""
    p = np.clip(p_ai.astype(np.float64), _TINY, 1 - _TINY)
    logit = np.log(p) - np.log1p(-p)
    return np.asarray(1 / (1 + np.exp(-logit * temperature)), dtype=np.float32)


def _uncalibrated_b(p_generator: npt.NDArray[np.float64], temperature: float) -> Probabilities:
    """Undo the division of head B's logits by `temperature`."""
    logits = np.log(np.maximum(p_generator, _TINY)) * temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
