"""Confusion matrices: counts of rows by true class (first) and predicted class."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from aigid.contract import CONFIDENCE
from aigid.training.intervals import Interval

Counts = npt.NDArray[np.int64]
_RESAMPLES = 1000


def count_confusion(
    truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int
) -> Counts:
    """Return the confusion matrix [classes, classes] of the classes of N rows, [N] each."""
    if not len(truth):
        return np.zeros((classes, classes), np.int64)
    found: Counts = confusion_matrix(truth, predicted, labels=range(classes))
    return found


def f1_by_class(confusions: Counts) -> npt.NDArray[np.float64]:
    """Return the F1 of each class [..., K] of confusion matrices [..., K, K]; 0 where undefined."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    counted = confusions.sum(axis=-1) + confusions.sum(axis=-2)
    return np.asarray(2 * right / np.maximum(counted, 1))


def recall_by_class(confusions: Counts) -> npt.NDArray[np.float64]:
    """Return each class's recall [..., K] of confusion matrices [..., K, K]; 0 without rows."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    return np.asarray(right / np.maximum(confusions.sum(axis=-1), 1))


def bootstrap_interval(
    confusion: Counts, metric: Callable[[Counts], npt.NDArray[np.float64]]
) -> Interval | None:
    """Return the interval of a metric of a confusion matrix int [K, K], true class first.

    The rows of each true class are drawn anew, with replacement, always by the same seed. `metric`
    maps matrices [S, K, K] to values [S]. None where all draws are alike, as for a model that is
    always right: then the data do not show how far the metric can vary.
    """
    rng = np.random.default_rng(0)
    totals = confusion.sum(axis=1)
    draws = [
        rng.multinomial(total, counts / max(total, 1), size=_RESAMPLES)
        if total
        else np.zeros((_RESAMPLES, len(counts)), np.int64)
        for total, counts in zip(totals.tolist(), confusion, strict=True)
    ]
    values = metric(np.stack(draws, axis=1))
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, (edge, 1 - edge))
    return Interval(float(low), float(high)) if values.min() < values.max() else None
