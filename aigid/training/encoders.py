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
    SiglipVisionModel,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from aigid.contract import ImageSpec, Resizing
from aigid.errors import CheckpointError, ContractError

IMAGE_ENCODERS: dict[str, Any] = {
    "clip_vision_model": CLIPVisionModel,
    "metaclip_2_vision_model": MetaClip2VisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "dinov3_vit": DINOv3ViTModel,
}
"""The image encoders by the `model_type` of their config; each pools its features itself.

A SigLIP 2 of a fixed size is a SigLIP.
"""

# These take images of any size: their preprocessor_config.json tells the usual one.
_ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit")
_PREPROCESSOR_FILE = "preprocessor_config.json"
# What transformers raises for values of a config that it cannot use.
_UNUSABLE = (StrictDataclassError, ValueError, TypeError, KeyError, RuntimeError)


def encoder_width(encoder: nn.Module) -> int:
    """Return the length of an encoder's feature vectors."""
    config: Any = encoder.config
    return int(config.hidden_size)


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


def image_encoder_from_config(config: dict[str, Any]) -> nn.Module:
    """Return an image encoder with random weights, of the architecture that `config` describes.

    It is CLIP's where `config` has no `model_type`. Raises CheckpointError for values that cannot
    be used.
    """
    values = {"model_type": "clip_vision_model", **config}
    model_class = _image_encoder_class(values["model_type"], "image_config")
    return _build("image_config", lambda: model_class(AutoConfig.for_model(**values)))


def load_text_encoder(name_or_folder: str) -> nn.Module:
    """Load a pretrained text encoder by hub id or folder, from safetensors only.

    Raises CheckpointError where it cannot be loaded.
    """
    encoder = _load_pretrained(AutoModel, name_or_folder)
    if not hasattr(encoder.config, "vocab_size"):
        raise CheckpointError(
            f"{name_or_folder}: not a text encoder: it holds a {type(encoder).__name__}"
        )
    return _without_pooler(encoder)


def load_image_encoder(name_or_folder: str) -> nn.Module:
    """Load a pretrained image encoder, as `load_text_encoder` does.

    Of a model of text and images the image encoder is loaded. CLIP, MetaCLIP 2, SigLIP, SigLIP 2 of
    a fixed size, DINOv2 and DINOv3 are supported.
    """
    with _loading(name_or_folder):
        whole = AutoConfig.from_pretrained(name_or_folder)
    config = getattr(whole, "vision_config", whole)
    model_class = _image_encoder_class(config.model_type, name_or_folder)
    return _load_pretrained(model_class, name_or_folder, config=config)


def image_spec_of(encoder: nn.Module, name_or_folder: str | None, resizing: Resizing) -> ImageSpec:
    """Return the size, mean and std that an image encoder was pretrained with.

    Mean and std are CLIP's where `name_or_folder` is None or has no preprocessor_config.json.
    Raises CheckpointError where that file is damaged.
    """
    config: Any = encoder.config
    values = {} if name_or_folder is None else _read_preprocessor(name_or_folder)
    size = int(config.image_size)
    if config.model_type in _ANY_SIZE:
        size = _side_of(values.get("crop_size")) or _side_of(values.get("size")) or size
    normalisation = {
        name: values[key]
        for name, key in (("mean", "image_mean"), ("std", "image_std"))
        if values.get(key)
    }
    try:
        return ImageSpec(size=size, resizing=resizing, **normalisation)
    except (ContractError, TypeError) as error:
        raise CheckpointError(f"{name_or_folder}: {_PREPROCESSOR_FILE}: {error}") from error


def _read_preprocessor(name_or_folder: str) -> dict[str, Any]:
    try:
        found: Any = cached_file(
            name_or_folder, _PREPROCESSOR_FILE, _raise_exceptions_for_missing_entries=False
        )
        values = {} if found is None else json.loads(Path(found).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name_or_folder}: {_PREPROCESSOR_FILE} cannot be read: {_one_line(error)}"
        ) from error
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{name_or_folder}: {_PREPROCESSOR_FILE}: expected an object, "
            f"got {type(values).__name__}"
        )
    return values


def _side_of(size: Any) -> int | None:
    """Return the side of the square that a preprocessor's size, a number or an object, gives."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    return size if isinstance(size, int) else None


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


def _without_pooler(encoder: nn.Module) -> nn.Module:
    if hasattr(encoder, "pooler"):
        # Its weights would never be trained, and the exported graphs would not have them.
        setattr(encoder, "pooler", None)  # noqa: B010 - nn.Module's stubs refuse an assignment
    return encoder


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
