"""The NAU-QMUL network (arXiv 2602.23863): a BERT text encoder, a CLIP vision encoder, a fusion layer and two heads."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, CLIPVisionConfig, CLIPVisionModel

from aigid.contract import ImageSpec
from aigid.errors import CheckpointError
from aigid.records import SOURCES

# What transformers raises for values of a config that it cannot use.
_UNUSABLE = (StrictDataclassError, ValueError, TypeError, KeyError, RuntimeError)


class Logits(NamedTuple):
    """The heads' answers for N pairs: `a` float [N] (AI-generated?), `b` float [N, 6] (which source?)."""

    a: Tensor
    b: Tensor


class FusionModel(nn.Module):
    """Text features and image features, concatenated (text first), through one hidden layer, to two heads."""

    def __init__(self, text_encoder: nn.Module, image_encoder: nn.Module, image: ImageSpec, hidden: int = 512) -> None:
        """Put new fusion and head layers upon the two encoders."""
        super().__init__()
        self.text_encoder = text_encoder
        self.image_encoder = image_encoder
        self.fusion = nn.Linear(encoder_width(text_encoder) + encoder_width(image_encoder), hidden)
        self.head_a = nn.Linear(hidden, 1)
        self.head_b = nn.Linear(hidden, len(SOURCES))
        # Not persistent: the contract carries them, and a checkpoint must not hold two versions of one fact.
        self.register_buffer("mean", torch.tensor(image.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(image.std).view(1, 3, 1, 1), persistent=False)

    def text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The [CLS] vector of the last hidden state, [N, Dt], of token ids and mask [N, T]."""
        output = self.text_encoder(input_ids=input_ids, attention_mask=attention_mask)
        features: Tensor = output.last_hidden_state[:, 0]
        return features

    def image_features(self, image: Tensor) -> Tensor:
        """The pooled output of the vision encoder, [N, Di], of pixels uint8 [N, size, size, 3]."""
        # The cast comes first: TensorRT refuses any other operation on uint8.
        pixels = image.to(torch.float32).permute(0, 3, 1, 2) / 255.0
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        encoder: Any = self.image_encoder
        features: Tensor = encoder(pixel_values=((pixels - mean) / std).to(encoder.dtype)).pooler_output
        return features

    def fuse(self, text: Tensor, image: Tensor) -> Logits:
        """The logits of both heads for features [N, Dt] and [N, Di]."""
        hidden = torch.relu(self.fusion(torch.cat([text, image], dim=1)))
        return Logits(self.head_a(hidden)[:, 0], self.head_b(hidden))

    def forward(self, image: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Logits:
        """The logits of both heads for N pairs."""
        return self.fuse(self.text_features(input_ids, attention_mask), self.image_features(image))


def encoder_width(encoder: nn.Module) -> int:
    """The length of an encoder's feature vectors."""
    config: Any = encoder.config
    return int(config.hidden_size)


def text_encoder_from_config(config: dict[str, Any]) -> nn.Module:
    """A text encoder with random weights, of the architecture that `config` (with its `model_type`) describes."""
    values = {key: value for key, value in config.items() if key != "model_type"}
    if "model_type" not in config:
        raise CheckpointError("text_config: model_type is missing; give for example bert")
    from_config: Any = AutoModel.from_config
    return _without_pooler(_built("text_config", lambda: from_config(AutoConfig.for_model(config["model_type"], **values))))


def image_encoder_from_config(config: dict[str, Any]) -> nn.Module:
    """A CLIP vision encoder with random weights, of the sizes in `config`."""
    if config.get("model_type", "clip_vision_model") != "clip_vision_model":
        raise CheckpointError(f"image_config: model_type is {config['model_type']}; this version knows clip_vision_model")
    values = {key: value for key, value in config.items() if key != "model_type"}
    return _built("image_config", lambda: CLIPVisionModel(CLIPVisionConfig(**values)))


def load_text_encoder(name_or_folder: str) -> nn.Module:
    """A pretrained text encoder by hub id or local folder, from safetensors only; raises CheckpointError."""
    encoder = _pretrained(AutoModel, name_or_folder)
    if not hasattr(encoder.config, "vocab_size"):
        raise CheckpointError(f"{name_or_folder}: not a text encoder: it holds a {type(encoder).__name__}")
    return _without_pooler(encoder)


def load_image_encoder(name_or_folder: str) -> nn.Module:
    """A pretrained CLIP vision encoder by hub id or local folder, from safetensors only; raises CheckpointError."""
    return _pretrained(CLIPVisionModel, name_or_folder)


def _built(what: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except _UNUSABLE as error:
        raise CheckpointError(f"{what}: no encoder can be made of it: {_one_line(error)}") from error


def _pretrained(kind: Any, name_or_folder: str) -> nn.Module:
    try:
        encoder, loading = kind.from_pretrained(name_or_folder, use_safetensors=True, output_loading_info=True)
    except (OSError, SafetensorError, *_UNUSABLE) as error:
        raise CheckpointError(f"{name_or_folder}: no encoder can be loaded from it: {_one_line(error)}") from error
    # Text models often lack the pooler, which is not used here; anything else missing would be left at random.
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(f"{name_or_folder}: its weights lack {', '.join(missing[:5])} ({len(missing)} in all)")
    model: nn.Module = encoder
    return model


def _without_pooler(encoder: nn.Module) -> nn.Module:
    if hasattr(encoder, "pooler"):
        # Its weights would never be trained, and the exporter would never use them.
        setattr(encoder, "pooler", None)  # noqa: B010 - the stubs of nn.Module refuse the plain assignment
    return encoder


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
