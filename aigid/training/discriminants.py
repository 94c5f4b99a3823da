"""Linear discriminants with a shrunk covariance: what a few rows of each class are enough for."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Discriminants:
    """Linear functions of features [N, D], one for each class but the first.

    Each says how much more a row is like that class than like the first one. `weights` is [C, D],
    `bias` [C].
    """

    weights: Floats
    bias: Floats

    def evidence(self, features: npt.NDArray[np.float32]) -> Floats:
        """Return the values [N, C] for features [N, D]."""
        return features @ self.weights.T + self.bias

    def scaled(self, factor: float) -> "Discriminants":
        """Return the same functions times a factor."""
        return Discriminants(self.weights * factor, self.bias * factor)

    def after(self, others: int) -> "Discriminants":
        """Return the same functions of features that `others` more stand before, unused."""
        return Discriminants(np.pad(self.weights, ((0, 0), (others, 0))), self.bias)


def fit_discriminants(features: npt.NDArray[np.float32], classes: Labels) -> Discriminants:
    """Fit Fisher's discriminants on features [N, D] of rows of the classes 0, 1, ... [N].

    All classes share one covariance and count the same. The covariance is shrunk as far as the rows
    leave it uncertain (Ledoit and Wolf 2004): no strength has to be chosen, on rows that are too
    few to choose it on.
    """
    means = np.stack([features[classes == one].mean(axis=0) for one in range(classes.max() + 1)])
    rest = features - means[classes]
    deviation = rest.std(axis=0)
    # A feature that never changes, as that of prompts where there are none, gets no weight.
    constant = deviation <= 1e-6 * np.abs(means).max(axis=0) + 1e-12
    scale = np.where(constant, 0, 1 / np.where(constant, 1, deviation))
    # On features that vary alike within the classes: the covariance is shrunk towards that.
    covariance, _ = ledoit_wolf(rest * scale, assume_centered=True)
    centre = means.mean(axis=0)
    scaled = (means - centre) * scale
    directions = np.linalg.solve(covariance, scaled.T).T
    offsets = -0.5 * (directions * scaled).sum(axis=1)
    weights = (directions[1:] - directions[0]) * scale
    return Discriminants(weights, offsets[1:] - offsets[0] - weights @ centre)
