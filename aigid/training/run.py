"""A training run from what a user names: manifests, encoders, a tokenizer."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils.hub import cached_file

from aigid.contract import TOKENIZER_FILE, ImageSpec, PromptSpec, Resizing, read_json
from aigid.cores import available_cores
from aigid.errors import CheckpointError, TrainingError, UsageError
from aigid.prompts import PromptEncoder
from aigid.records import SOURCES
from aigid.training.checkpoint import CheckpointInfo
from aigid.training.config import TrainingConfig
from aigid.training.datasets import Input, LabelledManifest, Reading
from aigid.training.encoders import (
    image_encoder_from_config,
    image_spec_of,
    load_image_encoder,
    load_text_encoder,
    text_encoder_from_config,
)
from aigid.training.fusion_model import FusionModel
from aigid.training.image_changes import unify
from aigid.training.trainer import Trainer, TrainingData
from aigid.training.training_progress import TrainingProgress


@dataclass(frozen=True)
class RunConfig:
    """What to train on, and from what. An encoder is a hub id, a folder, or a config's JSON file (random weights).

    `threads` are the threads that decode pictures, one for each core if it is None. `without` leaves an input out, to see
    what it is worth: a model that is used is not trained so.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    text_encoder: str
    image_encoder: str
    folder: Path
    tokenizer: Path | None = None
    resizing: Resizing = Resizing.SHORTER_SIDE
    threads: int | None = None
    without: Input | None = None
    fusion_hidden: int = 512
    name: str = "aigid"
    notice: str = ""
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def train(
    config: RunConfig,
    progress: TrainingProgress,
    on_message: Callable[[str], None],
    *,
    resume: bool = False,
) -> Path | None:
    """Train a model; returns the best checkpoint's folder, or None in those processes of several that do not write.

    Raises AigidError for what cannot be done.
    """
    torch.manual_seed(config.training.seed)
    text = _encoder(config.text_encoder, text_encoder_from_config, load_text_encoder)
    image = _encoder(config.image_encoder, image_encoder_from_config, load_image_encoder)
    spec = image_spec_of(
        image, None if _is_config(config.image_encoder) else config.image_encoder, config.resizing
    )
    info = describe_model(
        (text, image), spec, config.fusion_hidden, name=config.name, notice=config.notice
    )
    tokenizer_file = config.tokenizer or own_tokenizer(config.text_encoder)
    prompts = open_prompts(tokenizer_file, info)
    reading = Reading(
        unify if config.training.unify else None,
        config.threads or available_cores(),
        config.without,
    )
    manifests = (
        LabelledManifest(sources, prompts, info.image, reading)
        for sources in (config.train, config.validation)
    )
    data = TrainingData(*manifests)
    check_data(data)
    model = FusionModel(text, image, info.image, config.fusion_hidden)
    trainer = Trainer(model, info, tokenizer_file, config.training, config.folder)
    return trainer.run(data, progress, on_message, resume=resume)


def check_data(data: TrainingData) -> None:
    """Raise TrainingError where labels are none or a class has no rows, UsageError where validation is pseudo-labelled."""
    data.validation.require_truth()
    missing = [
        f"{name} (Label_B {label})"
        for label, name in enumerate(SOURCES)
        if not data.train.rows_of_classes()[label]
    ]
    if missing:
        train = data.train.files[0].path
        raise TrainingError(
            f"{train}: no rows of {', '.join(missing)}: a class that is never seen is never found; add some"
        )
    validation = data.validation.files[0].path
    real, *generated = data.validation.rows_of_classes()
    if not real or not sum(generated):
        lacking = "real rows (Label_A 0)" if not real else "AI-generated rows (Label_A 1)"
        raise TrainingError(
            f"{validation}: no {lacking} to validate on: the best epoch is told by both"
        )


def describe_model(
    encoders: tuple[nn.Module, nn.Module],
    image: ImageSpec,
    fusion_hidden: int,
    *,
    name: str,
    notice: str,
) -> CheckpointInfo:
    """What a checkpoint says of a model with these encoders, of text and of images: their configs, and what they take."""
    text_config, image_config = map(_config_of, encoders)
    tokens = min(128, int(text_config.get("max_position_embeddings", 128)))
    buckets = tuple(size for size in (16, 32, 64, 128) if size < tokens) + (tokens,)
    return CheckpointInfo(
        name=name,
        notice=notice,
        text_config=text_config,
        image_config=image_config,
        fusion_hidden=fusion_hidden,
        image=image,
        prompt=PromptSpec(tokens, buckets),
    )


def open_prompts(tokenizer_file: Path, info: CheckpointInfo) -> PromptEncoder:
    """The model's tokenizer; raises UsageError where it has more tokens than the text encoder knows."""
    prompts = PromptEncoder(tokenizer_file, info.prompt)
    vocabulary = int(info.text_config.get("vocab_size", 0))
    if prompts.vocabulary_size > vocabulary:
        raise UsageError(
            f"{tokenizer_file}: has {prompts.vocabulary_size} tokens, but the text encoder knows {vocabulary}: "
            "name the tokenizer that the encoder was made with"
        )
    return prompts


def read_encoder_config(file: Path) -> dict[str, Any]:
    """An encoder's config from a JSON file; raises UsageError where it is none."""
    values = read_json(file, "an encoder's config")
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{file}: not an encoder's config: expected an object, got {type(values).__name__}"
        )
    return values


def own_tokenizer(text_encoder: str) -> Path:
    """The tokenizer.json of a text encoder by hub id or folder; raises UsageError where it has none."""
    if _is_config(text_encoder):
        raise UsageError(
            f"{text_encoder}: a config has no tokenizer beside it: name one with --tokenizer"
        )
    try:
        found: Any = cached_file(text_encoder, TOKENIZER_FILE)
    except OSError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{text_encoder}: no {TOKENIZER_FILE}: {reason}: name one with --tokenizer"
        ) from error
    return Path(found)


def _config_of(encoder: nn.Module) -> dict[str, Any]:
    config: Any = encoder.config
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    # The folder that it was loaded from says nothing about the model.
    values.pop("_name_or_path", None)
    return {
        **values,
        "model_type": config.model_type,
        "hidden_size": config.hidden_size,
        **_sizes(config),
    }


def _sizes(config: Any) -> dict[str, Any]:
    names = ("vocab_size", "max_position_embeddings", "image_size")
    return {name: getattr(config, name) for name in names if hasattr(config, name)}


def _is_config(encoder: str) -> bool:
    """Whether it is a config's file that is named, not a hub id or a folder."""
    return encoder.endswith(".json")


def _encoder(
    name: str, from_config: Callable[[dict[str, Any]], nn.Module], load: Callable[[str], nn.Module]
) -> nn.Module:
    if not _is_config(name):
        return load(name)
    values = read_encoder_config(Path(name))
    try:
        return from_config(values)
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
