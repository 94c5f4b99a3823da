"""The ROC curve with a logarithmic axis: what matters is at low false-positive rates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import roc_curve

from aigid.training.intervals import Interval, Proportion, lowest_rate_shown
from aigid.training.metrics import LabelledScores
from aigid.training.operating_points import OperatingPoint
from aigid.training.plots.figure import BLUE, GREY, VERMILION, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^v"
_POINTS = 500


def roc_figure(scores: LabelledScores, points: Sequence[OperatingPoint], subject: str) -> "Figure":
    """Draw the ROC curve of task A, with the stored thresholds where this data has them.

    `subject` names the model and the data. Without rows of both classes there is no curve.
    """
    figure = new_figure(7.5, 6)
    axes = figure.add_subplot()
    ai, real = int(scores.label_a.sum()), int((scores.label_a == 0).sum())
    lowest = 10.0 ** np.floor(np.log10(0.5 / max(real, 50)))
    axes.set(
        xscale="log",
        xlim=(lowest, 1),
        ylim=(0, 1),
        xlabel=f"false-positive rate (share of {real:,} real rows, log scale)",
        ylabel=f"true-positive rate (share of {ai:,} AI-generated rows)",
    )
    if ai and real:
        _draw_curve(axes, scores, lowest)
        _draw_points(axes, points, lowest)
        axes.legend(loc="best", fontsize=8)
    else:
        missing = "real" if ai else "AI-generated"
        note = f"no curve: the data has no {missing} rows"
        axes.text(0.5, 0.5, note, ha="center", va="center", transform=axes.transAxes)
    set_title(figure, "Task A: ROC, with 95 % intervals", subject)
    return figure


def _draw_curve(axes: "Axes", scores: LabelledScores, lowest: float) -> None:
    ai, real = int(scores.label_a.sum()), int((scores.label_a == 0).sum())
    fpr, tpr, _ = roc_curve(scores.label_a, scores.p_ai)
    rates = np.geomspace(lowest, 1, _POINTS)
    # The best true-positive rate within each false-positive rate.
    found = tpr[np.searchsorted(fpr, rates, side="right") - 1]
    axes.plot(rates, found, color=BLUE, label="this model")
    ends = [Proportion(round(rate * ai), ai).interval or Interval(0, 1) for rate in found]
    axes.fill_between(rates, *np.array(ends).T, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(rates, rates, color=GREY, linestyle="--", label="chance")
    shown_from = lowest_rate_shown(real)
    label = f"rates below {shown_from:.2g}: too few real rows to show them"
    axes.axvspan(lowest, shown_from, label=label, color=GREY, alpha=0.15, linewidth=0)


def _draw_points(axes: "Axes", points: Sequence[OperatingPoint], lowest: float) -> None:
    for index, point in enumerate(points):
        fpr, tpr = point.fpr, point.tpr
        if fpr.value is None or tpr.value is None or not (fpr.interval and tpr.interval):
            continue
        x, y = max(fpr.value, lowest), tpr.value
        label = (
            f"threshold {point.threshold.p_ai:.3f}, stored for FPR {point.max_fpr:.4g}: "
            f"measured FPR {fpr.value:.2g}, TPR {tpr.value:.2g}"
        )
        x_low, x_high = (max(end, lowest) for end in fpr.interval)
        axes.errorbar(
            x,
            y,
            xerr=[[x - x_low], [x_high - x]],
            yerr=[[y - tpr.interval.low], [tpr.interval.high - y]],
            marker=_MARKERS[index % len(_MARKERS)],
            color=VERMILION,
            linestyle="none",
            capsize=3,
            clip_on=False,
            zorder=3,
            label=label,
        )
