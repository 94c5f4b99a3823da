"""Heads from a few labelled rows, on features that stay as they are.

Fisher's discriminants give the evidence for each generator, and heads are fitted to that evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import StratifiedKFold
from torch.nn import functional

from aigid.contract import Temperatures
from aigid.errors import ManifestError
from aigid.training.calibration import fit_temperatures
from aigid.training.discriminants import Floats, Labels, fit_discriminants
from aigid.training.evidence_heads import EvidenceHeads, fit_evidence_heads
from aigid.training.heads import Heads, Logits
from aigid.training.labelled_features import LabelledFeatures

WITHOUT_LABEL = "AI-generated without a label"
"""The class of AI-generated rows whose generator is not stated, or not among the labels."""

FOLDS = 5
"""Folds of the cross-validation; each class needs as many rows."""

# Where AI-generated rows are too few, and where real ones are.
_REMEDIES = ("add such rows, or take these out", "add such rows")


@dataclass(frozen=True)
class FewShotHeads:
    """New heads, which need no temperatures, and what cross-validation says of them.

    The `logits` of each row are by heads that were fitted without it. `uses_prompts` tells whether
    the heads read the text features.
    """

    heads: Heads
    logits: Logits
    uses_prompts: bool


def fit_few_shot(rows: LabelledFeatures, labels: Sequence[str]) -> FewShotHeads:
    """Fit heads over these labels, "real" first, and cross-validate them.

    AI-generated rows without one of the labels count for head A alone, as a class of their own. The
    text features count only if that lowers the cross-validated log loss by more than its standard
    error: with few rows, features that say little cost more than they give.

    Raises ManifestError where a class has fewer rows than FOLDS.
    """
    classes = np.where(rows.label_b < 0, len(labels), rows.label_b)
    names = (*labels, WITHOUT_LABEL)
    check_class_rows(dict(zip(names, np.bincount(classes, minlength=len(names)), strict=True)))
    image = _cross_validate(rows.image, classes, rows)
    both_features = np.concatenate([rows.text, rows.image], axis=1)
    both = _cross_validate(both_features, classes, rows)
    uses_prompts = _is_better(both, image, rows, len(labels))
    best, features = (both, both_features) if uses_prompts else (image, rows.image)
    found = fit_discriminants(features, classes).scaled(1 / best.scale)
    if not uses_prompts:
        found = found.after(rows.text.shape[1])
    temperatures = best.temperatures(rows, len(labels))
    logits = best.logits(len(labels))
    return FewShotHeads(
        best.heads.on_features(found, rows.text.shape[1], len(labels), temperatures),
        Logits((logits.a / temperatures.a).float(), (logits.b / temperatures.b).float()),
        uses_prompts,
    )


def check_class_rows(counts: Mapping[str, int], where: str = "the rows") -> None:
    """Raise ManifestError where a class has fewer rows than FOLDS, by the rows of each class.

    The first class is that of real rows. The class WITHOUT_LABEL may have none. `where` are they.
    """
    real, *generated = counts.values()
    if not any(generated):
        raise ManifestError(
            f"{where}: all {real:,} rows are real: heads need AI-generated rows too"
        )
    few = [
        f"{name} has {rows}"
        for name, rows in counts.items()
        if rows < FOLDS and (rows or name != WITHOUT_LABEL)
    ]
    if few:
        raise ManifestError(
            f"{where}: each class needs {FOLDS} rows, one for each fold of the cross-validation: "
            f"{', '.join(few)}: {_REMEDIES[int(real < FOLDS)]}"
        )


@dataclass(frozen=True)
class _CrossValidated:
    """Each row's evidence [N, C] by what was learnt from others, divided by `scale`, and heads.

    The heads are fitted to all of the evidence. They have a slope and an offset to learn, which do
    not flatter.
    """

    evidence: Floats
    scale: float
    heads: EvidenceHeads

    def logits(self, labels: int) -> Logits:
        """Return the logits of the rows, not calibrated yet."""
        return self.heads.logits(self.evidence, labels)

    def temperatures(self, rows: LabelledFeatures, labels: int) -> Temperatures:
        """Return the temperatures that calibrate the logits."""
        label_a, label_b = torch.from_numpy(rows.label_a), torch.from_numpy(rows.label_b)
        return fit_temperatures(self.logits(labels), label_a, label_b)


def _cross_validate(
    features: npt.NDArray[np.float32], classes: Labels, rows: LabelledFeatures
) -> _CrossValidated:
    evidence = np.empty((len(classes), classes.max()))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for fitted, held_out in folds.split(features, classes):
        found = fit_discriminants(features[fitted], classes[fitted])
        evidence[held_out] = found.evidence(features[held_out])
    sizes = np.abs(evidence.max(axis=1))
    # Of the class that is hardest to tell: a generator that is easy to tell has far more.
    scale = min(float(sizes[classes == one].mean()) for one in range(classes.max() + 1))
    scale = max(scale, 1e-12)
    evidence /= scale
    return _CrossValidated(evidence, scale, fit_evidence_heads(evidence, rows.label_a))


def _is_better(
    one: _CrossValidated, other: _CrossValidated, rows: LabelledFeatures, labels: int
) -> bool:
    gain = _losses(other, rows, labels) - _losses(one, rows, labels)
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def _losses(cross_validated: _CrossValidated, rows: LabelledFeatures, labels: int) -> Floats:
    """Return the log loss of each row [N]: of head A, and of head B where it has a generator."""
    logits = cross_validated.logits(labels)
    temperatures = cross_validated.temperatures(rows, labels)
    label_a, label_b = torch.from_numpy(rows.label_a), torch.from_numpy(rows.label_b)
    losses = functional.binary_cross_entropy_with_logits(
        logits.a / temperatures.a, label_a.double(), reduction="none"
    )
    named = label_b > 0
    losses[named] += functional.cross_entropy(
        logits.b[named, 1:] / temperatures.b, label_b[named] - 1, reduction="none"
    )
    found: Floats = losses.numpy()
    return found
