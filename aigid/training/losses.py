"""The paper's multi-task loss (NAU-QMUL, arXiv 2602.23863)."""

from torch import Tensor
from torch.nn import functional

from aigid.training.fusion_model import Logits


def multi_task_loss(logits: Logits, label_a: Tensor, label_b: Tensor) -> Tensor:
    """`BCEWithLogits(A) + CE(B)`, a scalar; labels are integer tensors [N].

    A real row has no generator, so the second term is averaged over the AI-generated rows only, and is 0 without any.
    """
    loss_a = functional.binary_cross_entropy_with_logits(logits.a, label_a.to(logits.a.dtype))
    generated = label_a == 1
    if not bool(generated.any()):
        # Still a function of the logits, so that its gradient is zero instead of absent.
        return loss_a + 0.0 * logits.b.sum()
    return loss_a + functional.cross_entropy(logits.b[generated], label_b[generated].long())
