"""The loss of a micro-batch as a module, which accelerate wraps for one device or several."""

from torch import Tensor, nn

from aigid.training.fusion_model import FusionModel
from aigid.training.heads import Logits
from aigid.training.losses import (
    BatchTotals,
    ClassWeights,
    LossConfig,
    consistency_loss,
    multi_task_loss,
)


class _Step(nn.Module):
    """A model and its loss; the module's parameters are the model's own."""

    def __init__(self, model: FusionModel, config: LossConfig, weights: ClassWeights) -> None:
        super().__init__()
        self.model = model
        self._config, self._weights = config, weights

    def _fuse(self, text: Tensor, image: Tensor) -> Logits:
        logits = self.model.fuse(text, image)
        # Under mixed precision the logits are half precision, too coarse for the loss's logarithms.
        return Logits(logits.a.float(), logits.b.float())

    def _loss(
        self, logits: Logits, label_a: Tensor, label_b: Tensor, totals: BatchTotals
    ) -> Tensor:
        return multi_task_loss(logits, label_a, label_b, self._config, self._weights, totals)


class TrainingStep(_Step):
    """The loss of rows as images and prompts."""

    def forward(
        self,
        images: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        label_a: Tensor,
        label_b: Tensor,
        totals: BatchTotals,
    ) -> Tensor:
        """Return what N rows add to the loss of the batch with these `totals`, a scalar.

        `images` are [N, ...], or [2 N, ...]: N images, then their changed copies in the same order.
        """
        text = self.model.text_features(input_ids, attention_mask)
        image = self.model.image_features(images)
        clean = self._fuse(text, image[: len(text)])
        loss = self._loss(clean, label_a, label_b, totals)
        if len(image) == len(text):
            return loss
        changed = self._fuse(text, image[len(text) :])
        loss = (loss + self._loss(changed, label_a, label_b, totals)) / 2
        features = image[: len(text)].float(), image[len(text) :].float()
        return loss + self._config.consistency * consistency_loss(clean, changed, features, totals)


class FeatureStep(_Step):
    """The loss of rows whose features were made before: the encoders are not run."""

    def forward(
        self, text: Tensor, image: Tensor, label_a: Tensor, label_b: Tensor, totals: BatchTotals
    ) -> Tensor:
        """Return what N rows add to the loss of the batch with these `totals`, a scalar."""
        return self._loss(self._fuse(text, image), label_a, label_b, totals)
