"""The plots of an evaluation. Their colours differ for colour-blind readers too."""

from aigid.training.plots.confusion import confusion_figure
from aigid.training.plots.figure import save_figure
from aigid.training.plots.reliability import reliability_figure
from aigid.training.plots.roc import roc_figure
from aigid.training.plots.scores import scores_figure

__all__ = [
    "confusion_figure",
    "reliability_figure",
    "roc_figure",
    "save_figure",
    "scores_figure",
]
