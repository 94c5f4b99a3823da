"""The confusion matrix as a plot, for any number of classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aigid.training.plots.figure import draw_literally, new_figure, set_title, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# With more classes, empty cells stay empty and names are smaller.
_FEW = 12


def confusion_figure(
    sources: Sequence[str], confusion: Sequence[Sequence[int]], subject: str
) -> "Figure":
    """Draw a confusion matrix [K, K], true class first, each cell coloured by its row's share.

    `subject` names the model and the data.
    """
    counts = np.array(confusion)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    size = max(4.0, 0.5 * len(sources) if len(sources) <= _FEW else 0.36 * len(sources) + 1)
    figure = new_figure(size + 2.8, size + 1.8)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    few = len(sources) <= _FEW
    fontsize = 9 if few else 7
    names = [short_name(name) for name in sources]
    rows = [f"{name} ({total:,})" for name, total in zip(names, totals.tolist(), strict=True)]
    places = range(len(sources))
    rotation = (
        {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if few else {"rotation": 90}
    )
    axes.set_xticks(places, names, fontsize=fontsize, **rotation)
    axes.set_yticks(places, rows, fontsize=fontsize)
    draw_literally([*axes.get_xticklabels(), *axes.get_yticklabels()])
    axes.set(xlabel="predicted class", ylabel="true class (rows)")
    for (row, column), count in np.ndenumerate(counts):
        if count or few:
            color = "white" if shares[row, column] > 0.5 else "black"
            text = axes.text(column, row, str(count), fontsize=fontsize - 1, color=color)
            text.set(ha="center", va="center")
    set_title(figure, "Task B: true and predicted class", subject)
    return figure
