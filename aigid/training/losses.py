"""The multi-task loss of the paper (NAU-QMUL, arXiv 2602.23863), with optional variations."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from aigid.errors import UsageError
from aigid.training.heads import Logits
from aigid.training.labels import LabelCounts


@dataclass(frozen=True)
class LossConfig:
    """The terms of the loss and their weights. The defaults are the paper's.

    `class_balanced` gives all classes the same weight, however many rows they have.
    `label_smoothing` is the part of each label that is spread over all classes. `weight_b` weighs
    the term of head B: 0 leaves that head untrained. `consistency` weighs the distance between the
    logits and features of an image and those of its changed copy (as in arXiv 2604.10102).
    """

    class_balanced: bool = False
    label_smoothing: float = 0.0
    weight_b: float = 1.0
    consistency: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(
                f"`label_smoothing` must be from 0 to below 1: got {self.label_smoothing:g}"
            )
        for name in ("weight_b", "consistency"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"`{name}` must be 0 or more: got {value:g}")


class ClassWeights(NamedTuple):
    """The weight of a row of each class: `a` float [2], `b` float [K]."""

    a: Tensor
    b: Tensor


class BatchTotals(NamedTuple):
    """The number of rows of a whole batch, and the sum of their weights in each head's term."""

    rows: float
    a: float
    b: float


def equal_weights(labels: int) -> ClassWeights:
    """Return the weights by which every row counts alike, for this number of labels."""
    return ClassWeights(torch.ones(2), torch.ones(labels))


def balanced_weights(counts: LabelCounts) -> ClassWeights:
    """Return the weights by which all classes count alike in each head's term; their mean is 1.

    A class without rows has the weight 0.
    """
    a = _balanced(torch.tensor([counts.real, counts.generated]))
    b = _balanced(torch.tensor(counts.classes[1:]))
    return ClassWeights(a, torch.cat([torch.zeros(1), b]))


def _balanced(rows: Tensor) -> Tensor:
    """Return the weight of a row of each class, from the number of rows of each."""
    rows = rows.double()
    classes = (rows > 0).sum().clamp(min=1)
    weights = rows.sum() / (classes * rows)
    return torch.where(rows > 0, weights, 0.0).float()


def batch_totals(
    label_a: Tensor, label_b: Tensor, weights: ClassWeights | None = None
) -> BatchTotals:
    """Return the totals of a batch or of a micro-batch; those of micro-batches add up."""
    named = label_b[_names_generator(label_a, label_b)].cpu()
    if weights is None:
        return BatchTotals(len(label_a), len(label_a), len(named))
    return BatchTotals(
        len(label_a), float(weights.a[label_a.cpu()].sum()), float(weights.b[named].sum())
    )


def multi_task_loss(
    logits: Logits,
    label_a: Tensor,
    label_b: Tensor,
    config: LossConfig = LossConfig(),
    weights: ClassWeights | None = None,
    totals: BatchTotals | None = None,
) -> Tensor:
    """Return `BCEWithLogits(A) + CE(B)`, a scalar; labels are integer tensors [N].

    A real row has no generator, and that of an AI-generated row with a negative `label_b` is none
    of the labels: the second term is the mean over the other rows, and 0 without any. `weights`
    are equal by default. `totals` are those of the batch, where these rows are a micro-batch of it:
    the losses of its micro-batches then add up to the loss of the batch.
    """
    weights = weights or equal_weights(logits.b.shape[1])
    totals = totals or batch_totals(label_a, label_b, weights)
    target = label_a.to(logits.a.dtype) * (1 - config.label_smoothing) + config.label_smoothing / 2
    weight_a, weight_b = (weight.to(logits.a) for weight in weights)
    losses = functional.binary_cross_entropy_with_logits(
        logits.a, target, weight=weight_a[label_a.long()], reduction="sum"
    )
    loss_a = losses / totals.a
    named = _names_generator(label_a, label_b)
    if not bool(named.any()):
        # It stays a function of the logits of head B, so that their gradient is zero, not None.
        return loss_a + 0.0 * logits.b.sum()
    labels = label_b[named].long()
    losses_b = functional.cross_entropy(
        logits.b[named], labels, reduction="none", label_smoothing=config.label_smoothing
    )
    return loss_a + config.weight_b * (losses_b * weight_b[labels]).sum() / totals.b


def _names_generator(label_a: Tensor, label_b: Tensor) -> Tensor:
    return (label_a == 1) & (label_b > 0)


def consistency_loss(
    clean: Logits, changed: Logits, features: tuple[Tensor, Tensor], totals: BatchTotals
) -> Tensor:
    """Return the distance between the outputs for images and for their changed copies, a scalar.

    It is the symmetric Kullback-Leibler divergence of both heads, plus 1 minus the cosine of the
    two `features`, [N, D] each.
    """
    divergence = _divergence(_two_classes(clean.a), _two_classes(changed.a)) + _divergence(
        clean.b, changed.b
    )
    distance = 1 - functional.cosine_similarity(*features)
    return (divergence + distance).sum() / totals.rows


def _two_classes(logits: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(logits), logits], dim=1)


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    """Return the symmetric divergence [N] of the distributions given by logits [N, C]."""
    p, q = functional.log_softmax(one, dim=1), functional.log_softmax(other, dim=1)
    return ((p.exp() - q.exp()) * (p - q)).sum(dim=1)
