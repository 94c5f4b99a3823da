"""The histogram of `p_ai`, by class."""

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from aigid.training.metrics import LabelledScores
from aigid.training.plots.figure import BLUE, GREY, ORANGE, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 50
_STYLES = ("-", "--", "-.", ":")


def scores_figure(
    scores: LabelledScores, thresholds: Mapping[str, float], subject: str
) -> "Figure":
    """Draw how `p_ai` is distributed in each class of task A, and the thresholds by their names.

    `subject` names the model and the data.
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    classes = {"real": (0, BLUE), "AI-generated": (1, ORANGE)}
    for name, (label, color) in classes.items():
        p_ai = scores.p_ai[scores.label_a == label]
        if not len(p_ai):
            continue
        weights = np.full(len(p_ai), 100 / len(p_ai))
        drawn: dict[str, Any] = {"bins": _BINS, "range": (0, 1), "weights": weights, "color": color}
        axes.hist(
            p_ai, histtype="stepfilled", alpha=0.35, label=f"{name}: {len(p_ai):,} rows", **drawn
        )
        axes.hist(p_ai, histtype="step", linewidth=1.2, **drawn)
    for (name, threshold), style in zip(thresholds.items(), cycle(_STYLES), strict=False):
        axes.axvline(threshold, color=GREY, linestyle=style, linewidth=1, label=name)
    most = max((int((scores.label_a == label).sum()) for label in (0, 1)), default=1)
    axes.set(
        xlim=(0, 1),
        ylim=(50 / max(most, 1), 150),
        yscale="log",
        xlabel="p_ai (calibrated probability that the image is AI-generated)",
        ylabel=f"rows in each bin of {1 / _BINS:g} (% of the class, log scale)",
    )
    axes.legend(loc="upper center", fontsize=8)
    set_title(figure, "Task A: scores by class", subject)
    return figure
