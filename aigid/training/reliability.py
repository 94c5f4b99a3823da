"""Whether probabilities are honest: expected calibration error and reliability diagrams, before calibration and after.

Source: Guo et al., On Calibration of Modern Neural Networks (2017): bins of equal width, weighted by their rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aigid.contract import Temperatures
from aigid.scorers import Probabilities
from aigid.training.metrics import Labelled

BINS = 15
RELIABILITY_FILE = "reliability.png"
_TASKS = {"a": "A: is it AI-generated?", "b": "B: which generator? (AI-generated rows)"}
_LEAST = 1e-12


@dataclass(frozen=True)
class Reliability:
    """Of each bin of probabilities its rows, their mean probability, and how often it came true; float64 [BINS] each."""

    rows: npt.NDArray[np.float64]
    said: npt.NDArray[np.float64]
    true: npt.NDArray[np.float64]

    @property
    def error(self) -> float | None:
        """The expected calibration error; None without rows."""
        total = self.rows.sum()
        return float((self.rows * np.abs(self.said - self.true)).sum() / total) if total else None


def reliability(said: Probabilities, came_true: npt.NDArray[np.bool_]) -> Reliability:
    """How N probabilities [N] compare with what came true [N]."""
    bins = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(bins, minlength=BINS).astype(np.float64)
    many = np.maximum(rows, 1)
    sums = (
        np.bincount(bins, weights=values.astype(np.float64), minlength=BINS)
        for values in (said, came_true)
    )
    mean_said, mean_true = (one / many for one in sums)
    return Reliability(rows, mean_said, mean_true)


def reliabilities(rows: Labelled, temperatures: Temperatures) -> dict[str, dict[str, Reliability]]:
    """Of both tasks ("a", "b"), `before` the temperatures of the model and `after`.

    Of B counts how sure it is of its likeliest generator, on AI-generated rows.
    """
    generated = rows.label_a == 1
    share = rows.p_source[generated, 1:].astype(np.float64)
    share /= np.maximum(share.sum(axis=1, keepdims=True), _LEAST)
    truth = rows.label_b[generated] - 1
    found: dict[str, dict[str, Reliability]] = {"a": {}, "b": {}}
    for name, heat_a, heat_b in (("before", temperatures.a, temperatures.b), ("after", 1.0, 1.0)):
        found["a"][name] = reliability(_heated_a(rows.p_ai, heat_a), generated)
        heated = _heated_b(share, heat_b)
        found["b"][name] = reliability(
            heated.max(axis=1, initial=0.0),
            heated.argmax(axis=1) == truth if len(truth) else generated[:0],
        )
    return found


def to_json(found: dict[str, dict[str, Reliability]]) -> dict[str, Any]:
    """The diagrams as numbers, with their expected calibration error, for `json.dumps`."""
    return {
        task: {
            name: {
                "error": one.error,
                "rows": one.rows.tolist(),
                "said": one.said.tolist(),
                "true": one.true.tolist(),
            }
            for name, one in parts.items()
        }
        for task, parts in found.items()
    }


def draw_reliability(calibration: dict[str, Any], file: Path) -> None:
    """Draw both tasks' diagrams, of what `to_json` gives, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    diagrams, counts = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))
    for axes, below, (task, parts) in zip(diagrams, counts, calibration.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=1, label="perfect")
        for name, one in parts.items():
            points = [
                point
                for point in zip(one["said"], one["true"], one["rows"], strict=True)
                if point[2]
            ]
            said, true, rows = zip(*points, strict=True) if points else ((), (), ())
            error = "-" if one["error"] is None else f"{one['error']:.3f}"
            (line,) = axes.plot(
                said,
                true,
                marker="o",
                linewidth=1,
                clip_on=False,
                label=f"{name} calibration, ECE {error}",
            )
            # A point of few rows says little: the rows are told below it.
            below.vlines(said, 0.5, rows, color=line.get_color(), linewidth=4, alpha=0.6)
        axes.set(title=_TASKS[task], ylabel="came true", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="lower right")
        below.set(xlabel="probability said", ylabel="rows", yscale="log", ylim=(0.5, None))
    figure.savefig(file, dpi=120)


def _heated_a(p_ai: Probabilities, temperature: float) -> Probabilities:
    """The probability without the temperature that its logit was divided by."""
    p = np.clip(p_ai.astype(np.float64), _LEAST, 1 - _LEAST)
    logit = np.log(p) - np.log1p(-p)
    return np.asarray(1 / (1 + np.exp(-logit * temperature)), dtype=np.float32)


def _heated_b(share: npt.NDArray[np.float64], temperature: float) -> Probabilities:
    logits = np.log(np.maximum(share, _LEAST)) * temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
