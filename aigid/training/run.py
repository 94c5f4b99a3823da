"""A training run from what a user names: manifests, encoders, a tokenizer, settings."""

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
from aigid.errors import CheckpointError, ManifestError, UsageError
from aigid.progress import OnMessage
from aigid.prompts import PromptEncoder
from aigid.training.checkpoint import CheckpointInfo
from aigid.training.config import TrainingConfig
from aigid.training.datasets import LabelledManifest
from aigid.training.encoders import (
    image_encoder_from_config,
    load_image_encoder,
    load_text_encoder,
    text_encoder_from_config,
)
from aigid.training.fusion_model import FusionModel
from aigid.training.image_changes import unify
from aigid.training.image_pooling import ImagePooling
from aigid.training.labels import LabelChoice
from aigid.training.preprocessing import image_spec_of
from aigid.training.row_decoder import Input, ReadOptions
from aigid.training.shared_files import warn_of_shared
from aigid.training.tracking import Tracking, new_accelerator
from aigid.training.trainer import Trainer, TrainingData
from aigid.training.training_progress import TrainingProgress


@dataclass(frozen=True)
class RunConfig:
    """What a run trains on, and the parts of the model.

    `train` and `validation` are the paths of labelled manifests. An encoder is a hub id, a folder,
    or the JSON file of a config (random weights). `tokenizer` is a tokenizer.json; None means the
    text encoder's own. `resizing` None means the image encoder's own. With `image_layer` or
    `image_pooling` the image encoder is cut, as in `cut_config`. `threads` decode images; None
    means one for each core. `without` leaves out an input, to measure what it is worth; a model for
    use needs both. `labels` says which columns the labels are in, and the model's labels;
    validation is read with the model's. Features of frozen encoders are kept in `feature_cache`;
    None means a folder in the run's. Metrics are reported to the trackers in `report_to`, which are
    "tensorboard", "wandb" and "mlflow"; the first writes event files into the run's `folder`.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    text_encoder: str
    image_encoder: str
    folder: Path
    tokenizer: Path | None = None
    resizing: Resizing | None = None
    image_layer: int | None = None
    image_pooling: ImagePooling | None = None
    threads: int | None = None
    without: Input | None = None
    labels: LabelChoice = LabelChoice()
    fusion_hidden: int = 512
    name: str = "aigid"
    notice: str = ""
    report_to: tuple[str, ...] = ("tensorboard",)
    feature_cache: Path | None = None
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)


def train(
    config: RunConfig,
    progress: TrainingProgress,
    on_message: OnMessage,
    *,
    resume: bool = False,
) -> Path | None:
    """Train a model and return the folder of the best checkpoint.

    In a distributed run every process calls this; all but the main one return None. Raises
    AigidError where something is missing, damaged or contradictory, before the folder is made.
    """
    tracking = Tracking(config.folder, config.report_to, config.name)
    tracking.check_packages()
    torch.manual_seed(config.training.seed)
    text, image = _make_encoders(config)
    pretrained = None if _is_config_file(config.image_encoder) else config.image_encoder
    info = describe_model(
        (text, image),
        image_spec_of(image, pretrained, config.resizing),
        config.fusion_hidden,
        name=config.name,
        notice=config.notice,
    )
    tokenizer_file = config.tokenizer or find_tokenizer(config.text_encoder)
    data = _open_data(config, open_prompts(tokenizer_file, info), info.image)
    # PartialState alone would not join the processes of a run on CPUs.
    if new_accelerator(config.training.precision).is_main_process:
        _tell_data(data, on_message)
    check_data(data)
    info = dataclasses.replace(info, labels=data.train.labels)
    model = FusionModel(text, image, info.image, config.fusion_hidden, len(info.labels))
    trainer = Trainer(model, info, tokenizer_file, config.training, tracking)
    return trainer.run(
        data, progress, on_message, resume=resume, feature_cache=config.feature_cache
    )


def _open_data(config: RunConfig, prompts: PromptEncoder, image: ImageSpec) -> TrainingData:
    options = ReadOptions(
        unify if config.training.unify else None,
        config.threads or available_cores(),
        config.without,
    )
    train = LabelledManifest(config.train, prompts, image, options, choice=config.labels)
    validation = LabelledManifest(
        config.validation, prompts, image, options, choice=config.labels, labels=train.labels
    )
    return TrainingData(train, validation)


def _tell_data(data: TrainingData, on_message: OnMessage) -> None:
    for name, manifest in (("training", data.train), ("validation", data.validation)):
        for line in manifest.row_labels.describe():
            on_message(f"{name}: {line}")
    if warning := warn_of_shared("validation", data.validation.files, data.train.files):
        on_message(warning)


def check_data(data: TrainingData) -> None:
    """Check that the manifests are enough to train and validate with.

    Raises ManifestError where rows of a class are missing, and UsageError where validation has
    pseudo-labels.
    """
    data.validation.reject_pseudo_labels()
    data.train.row_labels.check_both("a model learns from")
    labels, counts = data.train.labels, data.train.class_counts()
    missing = [label for label, rows in zip(labels, counts, strict=True) if not rows]
    if missing:
        there = [label for label in labels if label not in missing]
        remedy = f"give `labels` {','.join(there)}" if there[1:] else "leave out `labels`"
        raise ManifestError(
            f"{data.train.files[0].path}: no rows of {', '.join(missing)}: a model cannot learn a "
            f"class that it never sees: add such rows, or {remedy}"
        )
    data.validation.row_labels.check_both("choosing the best epoch needs")


def describe_model(
    encoders: tuple[nn.Module, nn.Module],
    image: ImageSpec,
    fusion_hidden: int,
    *,
    name: str,
    notice: str,
) -> CheckpointInfo:
    """Return the description of a model with this text encoder and this image encoder.

    Prompts have at most 128 tokens, or fewer where the text encoder has fewer positions.
    """
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
    """Open the model's tokenizer.

    Raises UsageError where it has more tokens than the text encoder has embeddings.
    """
    prompts = PromptEncoder(tokenizer_file, info.prompt)
    embeddings = int(info.text_config.get("vocab_size", 0))
    if prompts.vocabulary_size > embeddings:
        raise UsageError(
            f"{tokenizer_file}: has {prompts.vocabulary_size} tokens, but the text encoder has "
            f"embeddings for {embeddings}: give the `tokenizer` that the encoder was trained with"
        )
    return prompts


def read_encoder_config(file: Path) -> dict[str, Any]:
    """Read an encoder's config from a JSON file.

    Raises UsageError where the file cannot be read or is not a JSON object.
    """
    values = read_json(file, "an encoder's config")
    if not isinstance(values, dict):
        raise CheckpointError(
            f"{file}: not an encoder's config: expected an object, got {type(values).__name__}"
        )
    return values


def find_tokenizer(text_encoder: str) -> Path:
    """Return the tokenizer.json of a text encoder by hub id or folder.

    Raises UsageError where it has none.
    """
    if _is_config_file(text_encoder):
        raise UsageError(f"{text_encoder}: a config comes without a tokenizer: give `tokenizer`")
    try:
        found: Any = cached_file(text_encoder, TOKENIZER_FILE)
    except OSError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{text_encoder}: no {TOKENIZER_FILE}: {reason}: give `tokenizer`"
        ) from error
    return Path(found)


def _config_of(encoder: nn.Module) -> dict[str, Any]:
    config: Any = encoder.config
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    # The folder that the encoder was loaded from says nothing about the model.
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


def _is_config_file(encoder: str) -> bool:
    """Return whether an encoder is named by a config file, not by a hub id or a folder."""
    return encoder.endswith(".json")


def _make_encoders(config: RunConfig) -> tuple[nn.Module, nn.Module]:
    layer, pooling = config.image_layer, config.image_pooling
    return (
        _make_encoder(config.text_encoder, text_encoder_from_config, load_text_encoder),
        _make_encoder(
            config.image_encoder,
            lambda values: image_encoder_from_config(values, layer, pooling),
            lambda name: load_image_encoder(name, layer, pooling),
        ),
    )


def _make_encoder(
    name: str, from_config: Callable[[dict[str, Any]], nn.Module], load: Callable[[str], nn.Module]
) -> nn.Module:
    if not _is_config_file(name):
        return load(name)
    values = read_encoder_config(Path(name))
    try:
        return from_config(values)
    except (CheckpointError, UsageError) as error:
        raise type(error)(f"{name}: {error}") from error
