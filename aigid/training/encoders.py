"""The text and image encoders: pretrained from a hub id or folder, or random from a config."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    DINOv3ViTModel,
    MetaClip2VisionModel,
    PreTrainedConfig,
    SiglipVisionModel,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.peft_utils import find_adapter_config_file

from aigid.errors import CheckpointError
from aigid.training.image_pooling import ImagePooling, cut_config, drop_final_norm, pooling_of
from aigid.training.perception_encoder import PerceptionEncoder, config_of_timm

IMAGE_ENCODERS: dict[str, Any] = {
    "clip_vision_model": CLIPVisionModel,
    "metaclip_2_vision_model": MetaClip2VisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "dinov3_vit": DINOv3ViTModel,
    "perception_encoder": PerceptionEncoder,
}
"""The image encoders by the `model_type` of their config; each pools its features itself.

A SigLIP 2 of a fixed size is a SigLIP.
"""

# What transformers raises for values of a config that it cannot use.
_UNUSABLE = (StrictDataclassError, ValueError, TypeError, KeyError, RuntimeError)


def encoder_width(encoder: nn.Module) -> int:
    """Return the length of an encoder's feature vectors."""
    config: Any = encoder.config
    return int(config.hidden_size) * (2 if pooling_of(config) is ImagePooling.CLS_MEAN else 1)


def text_encoder_from_config(config: dict[str, Any]) -> nn.Module:
    """Return a text encoder with random weights, of the architecture that `config` describes.

    Raises CheckpointError where `config` has no `model_type`, or values that cannot be used.
    """
    values = {key: value for key, value in config.items() if key != "model_type"}
    if "model_type" not in config:
        raise CheckpointError("text_config: model_type is missing; give for example bert")
    from_config: Any = AutoModel.from_config
    return _without_pooler(
        _build(
            "text_config", lambda: from_config(AutoConfig.for_model(config["model_type"], **values))
        )
    )


def image_encoder_from_config(
    config: dict[str, Any], layer: int | None = None, pooling: ImagePooling | None = None
) -> nn.Module:
    """Return an image encoder with random weights, of the architecture that `config` describes.

    It is CLIP's where `config` has no `model_type`. `layer` and `pooling` cut it, as in
    `cut_config`. Raises CheckpointError for values that cannot be used, and UsageError as
    `cut_config` does.
    """
    where = "image_config"
    values = {"model_type": "clip_vision_model", **config}
    model_class = _image_encoder_class(values.pop("model_type"), where)

    def build() -> nn.Module:
        whole = model_class.config_class(**values)
        return _without_norm_if_cut(model_class(cut_config(whole, layer, pooling, where)))

    return _build(where, build)


def load_text_encoder(name_or_folder: str) -> nn.Module:
    """Load a pretrained text encoder by hub id or folder, from safetensors only.

    Raises CheckpointError where it cannot be loaded.
    """
    with _loading(name_or_folder):
        _refuse_adapters(name_or_folder)
    encoder = _load_pretrained(AutoModel, name_or_folder)
    if not hasattr(encoder.config, "vocab_size"):
        raise CheckpointError(
            f"{name_or_folder}: not a text encoder: it holds a {type(encoder).__name__}"
        )
    return _without_pooler(encoder)


def load_image_encoder(
    name_or_folder: str, layer: int | None = None, pooling: ImagePooling | None = None
) -> nn.Module:
    """Load a pretrained image encoder, as `load_text_encoder` does.

    Of a model of text and images the image encoder is loaded. CLIP, MetaCLIP 2, SigLIP, SigLIP 2 of
    a fixed size, DINOv2, DINOv3 and timm's checkpoints of Perception Encoder (PE core) are
    supported. `layer` and `pooling` cut it, as in `cut_config`: what comes later is not loaded.
    """
    with _loading(name_or_folder):
        _refuse_adapters(name_or_folder)
        config = _image_config(name_or_folder)
    model_class = _image_encoder_class(config.model_type, name_or_folder)
    cut = cut_config(config, layer, pooling, name_or_folder)
    return _without_norm_if_cut(_load_pretrained(model_class, name_or_folder, config=cut))


def _image_config(name_or_folder: str) -> Any:
    values, _ = PreTrainedConfig.get_config_dict(name_or_folder)
    if values.get("model_type") == "timm_wrapper":
        return config_of_timm(values.get("architecture", ""))
    if values.get("model_type") == PerceptionEncoder.config_class.model_type:
        return PerceptionEncoder.config_class.from_dict(values)
    whole = AutoConfig.from_pretrained(name_or_folder)
    return getattr(whole, "vision_config", whole)


def _without_norm_if_cut(encoder: nn.Module) -> nn.Module:
    config: Any = encoder.config
    if pooling_of(config) is not None:
        drop_final_norm(encoder)
    return encoder


def _image_encoder_class(model_type: Any, where: str) -> Any:
    if model_type not in IMAGE_ENCODERS:
        known = ", ".join(IMAGE_ENCODERS)
        raise CheckpointError(f"{where}: model_type is {model_type}; image encoders are {known}")
    return IMAGE_ENCODERS[model_type]


def _build(where: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except _UNUSABLE as error:
        raise CheckpointError(f"{where}: no encoder can be built: {_one_line(error)}") from error


@contextmanager
def _loading(name_or_folder: str) -> Iterator[None]:
    """Raise CheckpointError for what transformers raises; hide its reports of unused weights."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except (OSError, SafetensorError, *_UNUSABLE) as error:
        raise CheckpointError(
            f"{name_or_folder}: no encoder can be loaded: {_one_line(error)}"
        ) from error
    finally:
        transformers_logging.set_verbosity(level)


def _load_pretrained(model_class: Any, name_or_folder: str, **options: Any) -> nn.Module:
    with _loading(name_or_folder):
        # float32: weights stored in half precision are trained in full precision.
        encoder, loading = model_class.from_pretrained(
            name_or_folder,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            **options,
        )
    # Text models often lack the pooler, which is unused here. Any other missing weight would be
    # left random.
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(
            f"{name_or_folder}: the weights lack {', '.join(missing[:5])} ({len(missing)} in all)"
        )
    model: nn.Module = encoder
    return model


def _refuse_adapters(name_or_folder: str) -> None:
    """Raise CheckpointError for LoRA adapters, which are not an encoder by themselves."""
    file = find_adapter_config_file(name_or_folder)
    if file is not None:
        base = json.loads(Path(file).read_text(encoding="utf-8")).get("base_model_name_or_path")
        raise CheckpointError(
            f"{name_or_folder}: adapters of the encoder {base}, not an encoder: merge them into it "
            "(merge_and_unload in peft), and give the folder of the merged encoder"
        )


def _without_pooler(encoder: nn.Module) -> nn.Module:
    if hasattr(encoder, "pooler"):
        # Its weights would never be trained, and the exported graphs would not have them.
        setattr(encoder, "pooler", None)  # noqa: B010 - nn.Module's stubs refuse an assignment
    return encoder


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
