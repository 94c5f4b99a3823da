"""The two encoders: pretrained ones by hub id or local folder, or random ones of a config; and what pictures they take."""

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

# By the type of their config; SigLIP 2 of a fixed size is a SigLIP. Each pools its features itself.
IMAGE_ENCODERS: dict[str, Any] = {
    "clip_vision_model": CLIPVisionModel,
    "metaclip_2_vision_model": MetaClip2VisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "dinov3_vit": DINOv3ViTModel,
}
# These take pictures of any size: their own preprocessing says which one they are used with.
_OF_ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit")
_PREPROCESSOR_FILE = "preprocessor_config.json"
# What transformers raises for values of a config that it cannot use.
_UNUSABLE = (StrictDataclassError, ValueError, TypeError, KeyError, RuntimeError)


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
    return _without_pooler(
        _built(
            "text_config", lambda: from_config(AutoConfig.for_model(config["model_type"], **values))
        )
    )


def image_encoder_from_config(config: dict[str, Any]) -> nn.Module:
    """A vision encoder with random weights, of the sizes in `config`; CLIP's, where it names no `model_type`."""
    values = {"model_type": "clip_vision_model", **config}
    kind = _kind_of(values["model_type"], "image_config")
    return _built("image_config", lambda: kind(AutoConfig.for_model(**values)))


def load_text_encoder(name_or_folder: str) -> nn.Module:
    """A pretrained text encoder by hub id or local folder, from safetensors only; raises CheckpointError."""
    encoder = _pretrained(AutoModel, name_or_folder)
    if not hasattr(encoder.config, "vocab_size"):
        raise CheckpointError(
            f"{name_or_folder}: not a text encoder: it holds a {type(encoder).__name__}"
        )
    return _without_pooler(encoder)


def load_image_encoder(name_or_folder: str) -> nn.Module:
    """A pretrained vision encoder, or that of a model of text and images, as `load_text_encoder` loads them.

    CLIP, MetaCLIP 2, SigLIP, SigLIP 2 (of a fixed size), DINOv2 and DINOv3.
    """
    with _loading(name_or_folder):
        whole = AutoConfig.from_pretrained(name_or_folder)
    config = getattr(whole, "vision_config", whole)
    return _pretrained(_kind_of(config.model_type, name_or_folder), name_or_folder, config=config)


def image_spec_of(encoder: nn.Module, name_or_folder: str | None, resizing: Resizing) -> ImageSpec:
    """The size, mean and std that a vision encoder was pretrained with; CLIP's mean and std, where it is not said.

    Raises CheckpointError where its preprocessor_config.json is damaged.
    """
    config: Any = encoder.config
    said = {} if name_or_folder is None else _preprocessor(name_or_folder)
    size = int(config.image_size)
    if config.model_type in _OF_ANY_SIZE:
        size = _pixels(said.get("crop_size")) or _pixels(said.get("size")) or size
    known = {
        name: said[key]
        for name, key in (("mean", "image_mean"), ("std", "image_std"))
        if said.get(key)
    }
    try:
        return ImageSpec(size=size, resizing=resizing, **known)
    except (ContractError, TypeError) as error:
        raise CheckpointError(f"{name_or_folder}: {_PREPROCESSOR_FILE}: {error}") from error


def _preprocessor(name_or_folder: str) -> dict[str, Any]:
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
            f"{name_or_folder}: {_PREPROCESSOR_FILE}: expected an object, got {type(values).__name__}"
        )
    return values


def _pixels(size: Any) -> int | None:
    """A side of the square of a preprocessor's `size`: a number, or an object of sides."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    return size if isinstance(size, int) else None


def _kind_of(model_type: Any, where: str) -> Any:
    if model_type not in IMAGE_ENCODERS:
        known = ", ".join(IMAGE_ENCODERS)
        raise CheckpointError(f"{where}: model_type is {model_type}; vision encoders are {known}")
    return IMAGE_ENCODERS[model_type]


def _built(what: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except _UNUSABLE as error:
        raise CheckpointError(
            f"{what}: no encoder can be made of it: {_one_line(error)}"
        ) from error


@contextmanager
def _loading(name_or_folder: str) -> Iterator[None]:
    """Turn what transformers raises into an error of ours, and keep its reports of unused weights to itself."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    except (OSError, SafetensorError, *_UNUSABLE) as error:
        raise CheckpointError(
            f"{name_or_folder}: no encoder can be loaded from it: {_one_line(error)}"
        ) from error
    finally:
        transformers_logging.set_verbosity(level)


def _pretrained(kind: Any, name_or_folder: str, **options: Any) -> nn.Module:
    with _loading(name_or_folder):
        # Weights that are stored as half precision are trained as float32.
        encoder, loading = kind.from_pretrained(
            name_or_folder,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            **options,
        )
    # Text models often lack the pooler, which is not used here; anything else missing would be left at random.
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(
            f"{name_or_folder}: its weights lack {', '.join(missing[:5])} ({len(missing)} in all)"
        )
    model: nn.Module = encoder
    return model


def _without_pooler(encoder: nn.Module) -> nn.Module:
    if hasattr(encoder, "pooler"):
        # Its weights would never be trained, and the exporter would never use them.
        setattr(encoder, "pooler", None)  # noqa: B010 - the stubs of nn.Module refuse the plain assignment
    return encoder


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
