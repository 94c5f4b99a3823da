"""The loss of a part of a batch as one module: what is trained, on one device or several."""

from torch import Tensor, nn

from aigid.training.fusion_model import FusionModel, Logits
from aigid.training.losses import (
    BatchTotals,
    ClassWeights,
    LossConfig,
    consistency_loss,
    multi_task_loss,
)


class TrainingStep(nn.Module):
    """A model under its loss."""

    def __init__(self, model: FusionModel, config: LossConfig, weights: ClassWeights) -> None:
        """The model's weights stay its own."""
        super().__init__()
        self.model = model
        self._config, self._weights = config, weights

    def forward(
        self,
        images: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        label_a: Tensor,
        label_b: Tensor,
        totals: BatchTotals,
    ) -> Tensor:
        """The share of N rows in the loss of the batch with these `totals`, a scalar.

        `images` are [N, ...], or [2 N, ...]: after all pictures the same ones changed, in the same order.
        """
        text, image = (
            self.model.text_features(input_ids, attention_mask),
            self.model.image_features(images),
        )
        clean = self._fused(text, image[: len(text)])
        loss = multi_task_loss(clean, label_a, label_b, self._config, self._weights, totals)
        if len(image) == len(text):
            return loss
        changed = self._fused(text, image[len(text) :])
        loss = (
            loss + multi_task_loss(changed, label_a, label_b, self._config, self._weights, totals)
        ) / 2
        features = image[: len(text)].float(), image[len(text) :].float()
        return loss + self._config.consistency * consistency_loss(clean, changed, features, totals)

    def _fused(self, text: Tensor, image: Tensor) -> Logits:
        logits = self.model.fuse(text, image)
        # What mixed precision computed in half of it: logarithms want all.
        return Logits(logits.a.float(), logits.b.float())
