"""Calibration error and reliability diagrams, before and after temperature scaling.

Source: Guo et al., On Calibration of Modern Neural Networks (2017): bins of equal width, weighted
by their rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aigid.contract import Temperatures
from aigid.scorers import Probabilities
from aigid.training.metrics import LabelledScores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 15
RELIABILITY_FILE = "reliability.png"
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

    def to_json(self) -> dict[str, Any]:
        """Return the diagram as it stands in metrics.json."""
        return {
            "error": self.error,
            "rows": self.rows.tolist(),
            "said": self.predicted.tolist(),
            "true": self.observed.tolist(),
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
    """The reliability of both tasks; task B counts AI-generated rows only."""

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
    generators = scores.p_source[generated, 1:].astype(np.float64)
    generators /= np.maximum(generators.sum(axis=1, keepdims=True), _TINY)
    truth = scores.label_b[generated] - 1

    def diagram_a(temperature: float) -> ReliabilityDiagram:
        return reliability_diagram(_uncalibrated_a(scores.p_ai, temperature), generated)

    def diagram_b(temperature: float) -> ReliabilityDiagram:
        p_generator = _uncalibrated_b(generators, temperature)
        right = p_generator.argmax(axis=1) == truth if len(truth) else generated[:0]
        return reliability_diagram(p_generator.max(axis=1, initial=0.0), right)

    return Calibration(
        TaskCalibration(before=diagram_a(temperatures.a), after=diagram_a(1.0)),
        TaskCalibration(before=diagram_b(temperatures.b), after=diagram_b(1.0)),
    )


def draw_reliability(calibration: Calibration, file: Path) -> None:
    """Draw the diagrams of both tasks as a PNG, with the rows of each bin below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    diagrams, counts = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))
    tasks = {
        "A: is it AI-generated?": calibration.a,
        "B: which generator? (AI-generated rows)": calibration.b,
    }
    for axes, counts_axes, (title, task) in zip(diagrams, counts, tasks.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=1, label="perfect")
        _draw_diagram(axes, counts_axes, "before calibration", task.before)
        _draw_diagram(axes, counts_axes, "after calibration", task.after)
        axes.set(title=title, ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="lower right")
        counts_axes.set(
            xlabel="predicted probability", ylabel="rows", yscale="log", ylim=(0.5, None)
        )
    figure.savefig(file, dpi=120)


def _draw_diagram(
    axes: "Axes", counts_axes: "Axes", name: str, diagram: ReliabilityDiagram
) -> None:
    filled = diagram.rows > 0
    predicted = diagram.predicted[filled]
    error = "-" if diagram.error is None else f"{diagram.error:.3f}"
    (line,) = axes.plot(
        predicted,
        diagram.observed[filled],
        marker="o",
        linewidth=1,
        clip_on=False,
        label=f"{name}, ECE {error}",
    )
    # A point of few rows means little, so the rows are shown below it.
    counts_axes.vlines(
        predicted, 0.5, diagram.rows[filled], color=line.get_color(), linewidth=4, alpha=0.6
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
