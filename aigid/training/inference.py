"""A torch model's scores for all rows of a labelled manifest, in the manifest's order."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aigid.contract import Temperatures
from aigid.training.calibration import probabilities
from aigid.training.datasets import LabelledManifest, ProcessRank
from aigid.training.features import FeatureRows, encode
from aigid.training.fusion_model import FusionModel
from aigid.training.heads import Heads, Logits
from aigid.training.labelled_features import LabelledFeatures
from aigid.training.metrics import LabelledScores
from aigid.training.training_batch import FeatureBatch, TrainingBatch

TORCH = "torch fp32"
"""What reports, and `FittedOn.graphs`, call a checkpoint that no graph was made of."""


@dataclass(frozen=True)
class LabelledLogits:
    """Logits and labels (int64 [N]) of the decoded rows; `undecodable` counts the others."""

    logits: Logits
    label_a: Tensor
    label_b: Tensor
    undecodable: int

    def calibrated(
        self, heads: Heads, temperatures: Temperatures, labels: tuple[str, ...]
    ) -> LabelledScores:
        """Return labels and scores at these temperatures, for heads over these `labels`."""
        p_ai, p_source = probabilities(self.logits, temperatures)
        device = heads.head_a.weight.device
        logits = Logits(self.logits.a.to(device), self.logits.b.to(device))
        with torch.inference_mode():
            known_score = heads.known_score(logits, p_source.to(device)).cpu()
        return LabelledScores(
            self.label_a.numpy(),
            self.label_b.numpy(),
            p_ai.numpy(),
            p_source.numpy(),
            known_score.numpy(),
            labels,
        )


def apply_model(model: FusionModel, batch: TrainingBatch | FeatureBatch) -> Logits:
    """Return the logits of a batch, on the model's device."""
    if isinstance(batch, TrainingBatch):
        return model.fuse(*encode(model, batch))
    device = model.head_a.weight.device
    return model.fuse(*(torch.from_numpy(part).to(device) for part in (batch.text, batch.image)))


def score_features(heads: Heads, rows: LabelledFeatures) -> LabelledLogits:
    """Return the logits that heads give to rows by their features, without gradients."""
    with torch.inference_mode():
        logits = heads.fuse(torch.from_numpy(rows.text), torch.from_numpy(rows.image))
    return LabelledLogits(
        logits, torch.from_numpy(rows.label_a), torch.from_numpy(rows.label_b), undecodable=0
    )


def score_manifest(
    model: FusionModel,
    manifest: LabelledManifest | FeatureRows,
    batch_rows: int,
    on_rows: Callable[[int], None] = lambda rows: None,
    process: ProcessRank = ProcessRank(),
) -> LabelledLogits:
    """Return the logits of every row of the process's part of a manifest, without gradients.

    `on_rows` is called with the number of rows of each batch. Raises TrainingError where not one
    image can be decoded.
    """
    model.eval()
    parts: list[tuple[Tensor, ...]] = []
    undecodable = 0
    with torch.inference_mode():
        for batch in manifest.batches(batch_rows, None, process):
            if len(batch.label_a):
                logits = apply_model(model, batch)
                labels = (torch.from_numpy(batch.label_a), torch.from_numpy(batch.label_b))
                parts.append((logits.a.cpu(), logits.b.cpu(), *labels))
            undecodable += batch.undecodable
            on_rows(len(batch.label_a) + batch.undecodable)
    a, b, label_a, label_b = (torch.cat(column) for column in zip(*parts, strict=True))
    return LabelledLogits(Logits(a, b), label_a, label_b, undecodable)
