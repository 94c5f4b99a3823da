"""The NAU-QMUL network (arXiv 2602.23863): text encoder, image encoder, fusion layer, two heads."""

from typing import Any

import torch
from torch import Tensor, nn

from aigid.contract import ImageSpec
from aigid.records import DEFAULT_LABELS
from aigid.training.encoders import encoder_width
from aigid.training.heads import Heads, Logits
from aigid.training.image_pooling import image_features, mean_of


class FusionModel(Heads):
    """The two encoders and the heads on their features. Fusion layer and heads start random."""

    def __init__(
        self,
        text_encoder: nn.Module,
        image_encoder: nn.Module,
        image: ImageSpec,
        hidden: int = 512,
        labels: int = len(DEFAULT_LABELS),
    ) -> None:
        super().__init__(encoder_width(text_encoder), encoder_width(image_encoder), hidden, labels)
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        # Not persistent: config.json has them, and a checkpoint must not hold one fact twice.
        self._image = image
        self.register_buffer("mean", torch.tensor(image.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(image.std).view(1, 3, 1, 1), persistent=False)

    def text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the [CLS] vectors of the last hidden state, [N, Dt], for ids and mask [N, T]."""
        output = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        features: Tensor = output.last_hidden_state[:, 0]
        return features

    def image_features(self, image: Tensor) -> Tensor:
        """Return the image encoder's features, [N, Di], for uint8 [N, *ImageSpec.shape].

        The features of several crops of an image are averaged.
        """
        # The cast comes first: TensorRT refuses any other operation on uint8.
        pixels = image.to(torch.float32)
        crops, size = self._image.crops_across**2, self._image.size
        if crops > 1:
            pixels = pixels.reshape(-1, size, size, 3)
        pixels = pixels.permute(0, 3, 1, 2) / 255.0
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        encoder: Any = self.image_encoder
        features = image_features(encoder, ((pixels - mean) / std).to(encoder.dtype))
        return features if crops == 1 else mean_of(features.reshape(-1, crops, features.shape[1]))

    def forward(self, image: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Logits:
        """Return the logits of both heads for N pairs."""
        return self.fuse(self.text_features(input_ids, attention_mask), self.image_features(image))
