"""Fit the open-set score of heads, and its threshold, on labelled rows.

The score's constants are the means of the generators' logits and their common covariance. The
features have hundreds of dimensions, most of which do not tell generators apart: a distance over
all of them finds generators that differ in kind, but misses those between the known ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import null_space
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from aigid.contract import OpenSet, Temperatures
from aigid.decisions import DEFAULT_THRESHOLD
from aigid.records import OTHER
from aigid.training.calibration import probabilities
from aigid.training.heads import Heads, Logits

KNOWN_RATE = 0.97
"""The share of the known generators' rows that keep their name.

Each point less costs their F1 half a point. On simulated images, with each generator left out in
turn, macro-F1 fell by 0.4 to 0.9 points, and 29 % of the wrong names stayed
(`benchmarks/open_set.py`).
"""

ROWS_NEEDED = 25
"""The rows of each generator that are needed."""

_FOLDS = 5
# Added to the variances, which keeps the projection finite, in half precision too.
_LEAST_VARIANCE = 1e-6

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FittedOpenSet:
    """When the source is `other`, or the reason why it never is."""

    open_set: OpenSet | None
    refused: str = ""


def fit_open_set(
    heads: Heads,
    logits: Logits,
    temperatures: Temperatures,
    label_b: Tensor,
    labels: Sequence[str],
) -> FittedOpenSet:
    """Fit the constants of the open-set score of `heads`, in place, and return its threshold.

    `logits` of N rows are those of these heads, `label_b` [N] is their index into `labels`, or
    negative. Rows whose generator is known count, for the threshold if they are called
    AI-generated. Each is scored with constants that were fitted without it.
    """
    known = label_b > 0
    rows = Logits(logits.a[known].double(), logits.b[known].double())
    generators = label_b[known].numpy() - 1
    refused = _refuse(np.bincount(generators, minlength=len(labels) - 1), labels)
    if refused:
        _KnownSpace.unfitted(len(labels) - 1).put_into(heads)
        return FittedOpenSet(None, refused)
    evidence = rows.evidence().numpy()
    typical = np.empty(len(generators))
    folds = _folds_of(generators)
    for fold in range(_FOLDS):
        held_out = folds == fold
        found = _KnownSpace.fit(evidence[~held_out], generators[~held_out])
        typical[held_out] = found.typical(evidence[held_out])
    _KnownSpace.fit(evidence, generators).put_into(heads)
    p_ai, p_source = (part.numpy() for part in probabilities(rows, temperatures))
    scores = (p_source[:, 1:].max(axis=1) * typical)[p_ai >= DEFAULT_THRESHOLD]
    if not len(scores):
        return FittedOpenSet(None, f"the source {OTHER}: no row of a known generator is called AI")
    threshold = np.sort(scores)[int((1 - KNOWN_RATE) * len(scores))]
    kept = float(np.mean(scores >= threshold))
    return FittedOpenSet(OpenSet(float(threshold), kept, len(scores)))


def _refuse(rows: npt.NDArray[np.intp], labels: Sequence[str]) -> str:
    """Return why rows of each generator, so many, are not enough; empty where they are."""
    if OTHER in labels:
        return f"the source {OTHER} is one of the labels: it has a class of its own"
    if len(rows) < 2:
        return f"the source {OTHER} needs two known generators: there is {len(rows)}"
    few = [
        f"{name} has {count:,}"
        for name, count in zip(labels[1:], rows.tolist(), strict=True)
        if count < ROWS_NEEDED
    ]
    needs = f"the source {OTHER} needs {ROWS_NEEDED} rows of each generator"
    return f"{needs}: {', '.join(few)}" if few else ""


def _folds_of(generators: Labels) -> Labels:
    """Return the fold of each row: every generator's rows take turns."""
    folds = np.empty_like(generators)
    for generator in np.unique(generators):
        rows = np.flatnonzero(generators == generator)
        folds[rows] = np.arange(len(rows)) % _FOLDS
    return folds


@dataclass(frozen=True)
class _KnownSpace:
    """The constants of the score of heads over G generators.

    `projection` [G + 1, G] takes logits to where a generator's rows have the covariance 1 around
    their mean, which is its row of `means` [G, G].
    """

    projection: Floats
    means: Floats

    @classmethod
    def unfitted(cls, generators: int) -> "_KnownSpace":
        """Return the constants by which all logits are typical."""
        return cls(np.zeros((generators + 1, generators)), np.zeros((generators, generators)))

    @classmethod
    def fit(cls, evidence: Floats, generators: Labels) -> "_KnownSpace":
        """Fit the constants to the evidence [N, G + 1] of rows of these generators [N]."""
        count = evidence.shape[1] - 1
        # What all of head B's logits have in common changes no probability, and does not count.
        basis = null_space(np.append(0, np.ones(count))[None])
        rows = evidence @ basis
        means = np.stack([rows[generators == one].mean(axis=0) for one in range(count)])
        covariance, _ = ledoit_wolf(rows - means[generators], assume_centered=True)
        root = np.linalg.cholesky(covariance + _LEAST_VARIANCE * np.eye(count))
        whitening = np.linalg.inv(root).T
        return cls(basis @ whitening, means @ whitening)

    def typical(self, evidence: Floats) -> Floats:
        """Return how typical the evidence of rows is of a generator, [N]; as `Heads` has it."""
        projected = evidence @ self.projection
        distances = ((projected[:, None] - self.means) ** 2).sum(axis=2).min(axis=1)
        found: Floats = 1 / (1 + distances / len(self.means))
        return found

    def put_into(self, heads: Heads) -> None:
        """Give the constants to heads, in place."""
        for name, value in (("projection", self.projection), ("means", self.means)):
            buffer = heads.get_buffer(f"known_{name}")
            buffer.copy_(torch.from_numpy(value).to(buffer))
