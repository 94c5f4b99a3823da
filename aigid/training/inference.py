"""A torch model's answers for a whole labelled manifest, in its order."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aigid.contract import Temperatures
from aigid.training.calibration import probabilities
from aigid.training.datasets import LabelledManifest, Share, TrainingBatch
from aigid.training.fusion_model import FusionModel, Logits
from aigid.training.metrics import Labelled


@dataclass(frozen=True)
class LabelledLogits:
    """Logits and labels (int64 [N]) of every row that could be decoded, and how many could not."""

    logits: Logits
    label_a: Tensor
    label_b: Tensor
    undecodable: int

    def answers(self, temperatures: Temperatures) -> Labelled:
        """The probabilities at these temperatures, with the labels, as metrics are told of."""
        p_ai, p_source = probabilities(self.logits, temperatures)
        return Labelled(self.label_a.numpy(), self.label_b.numpy(), p_ai.numpy(), p_source.numpy())


def apply_model(model: FusionModel, batch: TrainingBatch) -> Logits:
    """The logits of a batch, on the model's device."""
    arrays = batch.images, batch.tokens.input_ids, batch.tokens.attention_mask
    answer: Logits = model(
        *(torch.from_numpy(array).to(model.head_a.weight.device) for array in arrays)
    )
    return answer


def score_manifest(
    model: FusionModel,
    manifest: LabelledManifest,
    batch_rows: int,
    on_rows: Callable[[int], None] = lambda rows: None,
    share: Share = Share(),
) -> LabelledLogits:
    """The logits of every row of a share, without gradients; raises TrainingError where no image can be decoded."""
    model.eval()
    parts: list[tuple[Logits, Tensor, Tensor]] = []
    with torch.inference_mode():
        for batch in manifest.batches(batch_rows, None, share):
            if len(batch.label_a):
                labels = torch.from_numpy(batch.label_a), torch.from_numpy(batch.label_b)
                answer = apply_model(model, batch)
                parts.append((Logits(answer.a.cpu(), answer.b.cpu()), *labels))
            on_rows(len(batch.label_a) + batch.undecodable)
    logits = Logits(
        torch.cat([part[0].a for part in parts]), torch.cat([part[0].b for part in parts])
    )
    label_a, label_b = (
        torch.cat([part[1] for part in parts]),
        torch.cat([part[2] for part in parts]),
    )
    # Counted from the rows that are there: a batch of which nothing is left is no batch.
    return LabelledLogits(logits, label_a, label_b, manifest.rows - len(label_a))
