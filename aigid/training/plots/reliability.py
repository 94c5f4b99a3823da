"""Reliability diagrams: predicted probabilities beside observed frequencies."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aigid.training.plots.figure import BLUE, GREY, ORANGE, new_figure, set_title
from aigid.training.reliability import Calibration, ReliabilityDiagram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RANGE = (-0.03, 1.03)
FEWEST_ROWS = 20
"""A bin of fewer rows shows little: its point is hollow, and no line leads to it."""


def reliability_figure(calibration: Calibration, subject: str) -> "Figure":
    """Draw the diagrams of both tasks with 95 % intervals, and the rows of each bin below.

    `subject` names the model and the data.
    """
    figure = new_figure(10, 6.4)
    diagrams, counts = figure.subplots(2, 2, sharex=True, height_ratios=(4, 1))
    tasks = {
        "A: AI-generated or real": (calibration.a, "probability that the image is AI-generated"),
        "B: which generator (AI-generated rows)": (
            calibration.b,
            "probability of the likeliest generator",
        ),
    }
    for axes, bars, (title, (task, x)) in zip(diagrams, counts, tasks.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="perfect calibration")
        _draw_diagram(axes, bars, "without temperature", task.before, ORANGE)
        _draw_diagram(axes, bars, "with temperature", task.after, BLUE)
        if any(
            (_filled(diagram) & ~_is_solid(diagram)).any() for diagram in (task.before, task.after)
        ):
            label = f"hollow: fewer than {FEWEST_ROWS} rows"
            axes.plot([], [], "o", color=GREY, markerfacecolor="white", label=label)
        axes.set(title=title, ylabel="share that came true", xlim=_RANGE, ylim=_RANGE)
        # Left out of the layout, for which a wide legend would shrink the diagram.
        axes.legend(loc="best", fontsize=8).set_in_layout(False)
        most = max(task.before.rows.max(), task.after.rows.max(), 10)
        bars.set(xlabel=f"predicted {x}", ylabel="rows in bin", yscale="log", ylim=(0.5, 2 * most))
        bars.yaxis.set_minor_formatter("")
    set_title(figure, "Reliability, with 95 % intervals", subject)
    return figure


def _draw_diagram(
    axes: "Axes", bars: "Axes", name: str, diagram: ReliabilityDiagram, color: str
) -> None:
    filled, solid = _filled(diagram), _is_solid(diagram)
    error = "-" if diagram.error is None else f"{diagram.error:.3f}"
    predicted, observed = diagram.predicted, diagram.observed
    label = f"{name}: calibration error {error}"
    axes.plot(predicted[solid], observed[solid], "o-", color=color, label=label)
    few = filled & ~solid
    (points,) = axes.plot(predicted[few], observed[few], "o", color=color)
    points.set(markerfacecolor="white", alpha=0.6)
    for drawn, alpha in ((solid, 0.8), (few, 0.3)):
        low, high = diagram.intervals[:, drawn]
        axes.vlines(predicted[drawn], low, high, color=color, linewidth=1, alpha=alpha)
    bars.vlines(predicted[filled], 0.5, diagram.rows[filled], color=color, linewidth=4, alpha=0.6)


def _filled(diagram: ReliabilityDiagram) -> npt.NDArray[np.bool_]:
    return diagram.rows > 0


def _is_solid(diagram: ReliabilityDiagram) -> npt.NDArray[np.bool_]:
    return diagram.rows >= FEWEST_ROWS
