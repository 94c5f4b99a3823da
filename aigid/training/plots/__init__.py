"""The plots of an evaluation, as PNG files. Colours differ for colour-blind readers too."""

from aigid.training.plots.confusion import CONFUSION_FILE, draw_confusion
from aigid.training.plots.reliability import RELIABILITY_FILE, draw_reliability
from aigid.training.plots.roc import ROC_FILE, draw_roc
from aigid.training.plots.scores import SCORES_FILE, draw_scores

__all__ = [
    "CONFUSION_FILE",
    "RELIABILITY_FILE",
    "ROC_FILE",
    "SCORES_FILE",
    "draw_confusion",
    "draw_reliability",
    "draw_roc",
    "draw_scores",
]
