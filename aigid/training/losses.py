"""The paper's multi-task loss (NAU-QMUL, arXiv 2602.23863), and what may be varied in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from aigid.errors import UsageError
from aigid.training.fusion_model import Logits


@dataclass(frozen=True)
class LossConfig:
    """The weights of the loss's terms; the defaults are the paper's.

    `class_balanced` weighs every class alike, however many rows it has. `label_smoothing` gives so much of a label to all
    classes. `weight_b` is the weight of head B's term: 0 leaves that head untrained. `consistency` is the weight of the
    distance between a picture's answers and features and those of the same picture changed (as in arXiv 2604.10102).
    """

    class_balanced: bool = False
    label_smoothing: float = 0.0
    weight_b: float = 1.0
    consistency: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"label smoothing is from 0 to below 1: got {self.label_smoothing:g}")
        if not (0 <= self.weight_b < math.inf and 0 <= self.consistency < math.inf):
            raise UsageError(
                f"weights of the loss must not be negative: got {self.weight_b:g} and {self.consistency:g}"
            )


class ClassWeights(NamedTuple):
    """What a row of each class counts: `a` float [2], `b` float [6]."""

    a: Tensor
    b: Tensor


class BatchTotals(NamedTuple):
    """Of a whole batch, however many parts it goes through in: its rows, and the rows that each term counts, weighed."""

    rows: float
    a: float
    b: float


EVEN = ClassWeights(torch.ones(2), torch.ones(6))


def balanced_weights(rows: Sequence[int]) -> ClassWeights:
    """Weights by which each class counts alike in its head's term, for so many rows of each source; 1 on average."""
    counts = torch.tensor(rows, dtype=torch.float64)
    a, generated = torch.stack([counts[0], counts[1:].sum()]), counts[1:]
    b = generated.sum() / (len(generated) * generated)
    return ClassWeights((counts.sum() / (2 * a)).float(), torch.cat([torch.zeros(1), b.float()]))


def batch_totals(label_a: Tensor, label_b: Tensor, weights: ClassWeights = EVEN) -> BatchTotals:
    """The totals of a batch, or of a part of one: those of parts add up."""
    generated = label_b[label_a == 1].cpu()
    return BatchTotals(
        len(label_a), float(weights.a[label_a.cpu()].sum()), float(weights.b[generated].sum())
    )


def multi_task_loss(
    logits: Logits,
    label_a: Tensor,
    label_b: Tensor,
    config: LossConfig = LossConfig(),
    weights: ClassWeights = EVEN,
    totals: BatchTotals | None = None,
) -> Tensor:
    """`BCEWithLogits(A) + CE(B)`, a scalar; labels are integer tensors [N].

    A real row has no generator, so the second term is averaged over the AI-generated rows only, and is 0 without any.
    Given the `totals` of the batch that these rows are a part of, the losses of its parts add up to that of the batch.
    """
    totals = totals or batch_totals(label_a, label_b, weights)
    truth = label_a.to(logits.a.dtype) * (1 - config.label_smoothing) + config.label_smoothing / 2
    weight_a, weight_b = (weight.to(logits.a) for weight in weights)
    losses = functional.binary_cross_entropy_with_logits(
        logits.a, truth, weight=weight_a[label_a.long()], reduction="sum"
    )
    loss_a = losses / totals.a
    generated = label_a == 1
    if not bool(generated.any()):
        # Still a function of the logits, so that its gradient is zero instead of absent.
        return loss_a + 0.0 * logits.b.sum()
    labels = label_b[generated].long()
    each = functional.cross_entropy(
        logits.b[generated], labels, reduction="none", label_smoothing=config.label_smoothing
    )
    return loss_a + config.weight_b * (each * weight_b[labels]).sum() / totals.b


def consistency_loss(
    clean: Logits, changed: Logits, features: tuple[Tensor, Tensor], totals: BatchTotals
) -> Tensor:
    """How far a picture's answers and features, [N, D] each, are from those of the same picture changed; a scalar.

    The symmetric Kullback-Leibler divergence of both heads' answers, and 1 less the features' cosine.
    """
    divergence = _divergence(_two_classes(clean.a), _two_classes(changed.a)) + _divergence(
        clean.b, changed.b
    )
    distance = 1 - functional.cosine_similarity(*features)
    return (divergence + distance).sum() / totals.rows


def _two_classes(logits: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(logits), logits], dim=1)


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    """[N], of the answers that logits [N, C] stand for."""
    p, q = functional.log_softmax(one, dim=1), functional.log_softmax(other, dim=1)
    return ((p.exp() - q.exp()) * (p - q)).sum(dim=1)
