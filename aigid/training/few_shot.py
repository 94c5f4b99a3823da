"""Heads from a few labelled rows, on features that stay as they are.

Fisher's discriminants tell each generator from real images. Head A weighs their evidence, head B
compares it. The hidden layer holds the positive and the negative part of each discriminant, so that
both heads are linear in it, as those of any other model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch.nn import functional

from aigid.errors import ManifestError
from aigid.training.calibration import fit_temperatures
from aigid.training.discriminants import Codes, Discriminants, Floats, fit_discriminants
from aigid.training.heads import Heads, Logits
from aigid.training.labelled_features import LabelledFeatures

WITHOUT_LABEL = "AI-generated without a label"
"""The class of AI-generated rows whose generator is not stated, or not among the labels."""

FOLDS = 5
"""Folds of the cross-validation; each class needs as many rows."""

# The inverse strength of the penalty on head A's weights, on evidence of about 1. On simulated
# images, 10 to 300 a class, 0.01 had a balanced accuracy up to 7 points lower, and 100 up to 7
# points lower on generators that had no rows.
_HEAD_A_C = 1.0


@dataclass(frozen=True)
class FewShotHeads:
    """New heads, which need no temperatures, and what cross-validation says of them.

    `hidden` [N, H] and `logits` of each row are by heads that were fitted without it.
    `uses_prompts` tells whether the heads read the text features.
    """

    heads: Heads
    hidden: torch.Tensor
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
    found = fit_discriminants(features, classes)
    if not uses_prompts:
        found = found.after(rows.text.shape[1])
    return _calibrated(found, best, rows, len(labels), uses_prompts)


def check_class_rows(counts: Mapping[str, int]) -> None:
    """Raise ManifestError where a class has fewer rows than FOLDS, by the rows of each class.

    The class WITHOUT_LABEL may have none.
    """
    few = [
        f"{name} has {rows}"
        for name, rows in counts.items()
        if rows < FOLDS and (rows or name != WITHOUT_LABEL)
    ]
    if few:
        raise ManifestError(
            f"each class needs {FOLDS} rows, one for each fold of the cross-validation: "
            f"{', '.join(few)}"
        )


@dataclass(frozen=True)
class _CrossValidated:
    """Each row's evidence [N, C] and logit of head A [N], without what was learnt from the row.

    The evidence is divided by `scale`, its mean size. `head_a` is fitted on all rows' evidence.
    """

    evidence: Floats
    scale: float
    logit_a: Floats
    head_a: LogisticRegression


def _cross_validate(
    features: npt.NDArray[np.float32], classes: Codes, rows: LabelledFeatures
) -> _CrossValidated:
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(features, classes))
    evidence = np.empty((len(classes), classes.max()))
    for fitted, held_out in folds:
        found = fit_discriminants(features[fitted], classes[fitted])
        evidence[held_out] = found.evidence(features[held_out])
    scale = max(float(np.abs(evidence).mean()), 1e-12)
    evidence /= scale
    logit_a = np.empty(len(classes))
    for fitted, held_out in folds:
        head_a = _fit_head_a(evidence[fitted], rows.label_a[fitted])
        logit_a[held_out] = head_a.decision_function(_parts(evidence[held_out]))
    return _CrossValidated(evidence, scale, logit_a, _fit_head_a(evidence, rows.label_a))


def _parts(evidence: Floats) -> Floats:
    """Return the positive and the negative parts [N, 2C]: the hidden layer."""
    parts: Floats = np.maximum(np.concatenate([evidence, -evidence], axis=1), 0)
    return parts


def _fit_head_a(evidence: Floats, label_a: Codes) -> LogisticRegression:
    """Fit head A; real and AI-generated rows count the same, however many there are of each."""
    head = LogisticRegression(C=_HEAD_A_C, class_weight="balanced", max_iter=1000)
    return head.fit(_parts(evidence), label_a)


def _logits(found: _CrossValidated, labels: int) -> Logits:
    """Return the logits of both heads, not calibrated yet. Those of "real" in head B are 0."""
    b = torch.zeros(len(found.evidence), labels, dtype=torch.float64)
    b[:, 1:] = torch.from_numpy(found.evidence[:, : labels - 1])
    return Logits(torch.from_numpy(found.logit_a), b)


def _is_better(
    one: _CrossValidated, other: _CrossValidated, rows: LabelledFeatures, labels: int
) -> bool:
    gain = _losses(other, rows, labels) - _losses(one, rows, labels)
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def _losses(cross_validated: _CrossValidated, rows: LabelledFeatures, labels: int) -> Floats:
    """Return the log loss of each row [N]: of head A, and of head B where it has a generator."""
    logits = _logits(cross_validated, labels)
    label_a, label_b = torch.from_numpy(rows.label_a), torch.from_numpy(rows.label_b)
    temperatures = fit_temperatures(logits, label_a, label_b)
    losses = functional.binary_cross_entropy_with_logits(
        logits.a / temperatures.a, label_a.double(), reduction="none"
    )
    named = label_b > 0
    losses[named] += functional.cross_entropy(
        logits.b[named, 1:] / temperatures.b, label_b[named] - 1, reduction="none"
    )
    found: Floats = losses.numpy()
    return found


def _calibrated(
    discriminants: Discriminants,
    found: _CrossValidated,
    rows: LabelledFeatures,
    labels: int,
    uses_prompts: bool,
) -> FewShotHeads:
    """Return heads whose cross-validated logits are calibrated as they are."""
    logits = _logits(found, labels)
    label_a, label_b = torch.from_numpy(rows.label_a), torch.from_numpy(rows.label_b)
    temperatures = fit_temperatures(logits, label_a, label_b)
    calibrated = Logits(logits.a / temperatures.a, logits.b / temperatures.b)
    outputs = len(discriminants.bias)
    heads = Heads(rows.text.shape[1], rows.image.shape[1], 2 * outputs, labels)
    direction = np.concatenate([discriminants.weights, -discriminants.weights]) / found.scale
    offset = np.concatenate([discriminants.bias, -discriminants.bias]) / found.scale
    # A row's evidence for a generator is its positive part less its negative part.
    compare = torch.zeros(labels, 2 * outputs)
    for label in range(1, labels):
        compare[label, [label - 1, outputs + label - 1]] = torch.tensor([1.0, -1.0])
    weights = {
        "fusion.weight": torch.from_numpy(direction),
        "fusion.bias": torch.from_numpy(offset),
        "head_a.weight": torch.from_numpy(found.head_a.coef_ / temperatures.a),
        "head_a.bias": torch.from_numpy(found.head_a.intercept_ / temperatures.a),
        "head_b.weight": compare / temperatures.b,
        "head_b.bias": torch.zeros(labels),
    }
    heads.load_state_dict({name: value.float() for name, value in weights.items()})
    hidden = torch.from_numpy(_parts(found.evidence)).float()
    return FewShotHeads(
        heads.eval(), hidden, Logits(calibrated.a.float(), calibrated.b.float()), uses_prompts
    )
