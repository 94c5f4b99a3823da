"""A checkpoint: a folder of model.safetensors, config.json and tokenizer.json, no pickle."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aigid.contract import (
    CONTRACT_FILE,
    TOKENIZER_FILE,
    FittedOn,
    ImageSpec,
    MissThreshold,
    OpenSet,
    PromptSpec,
    Temperatures,
    Threshold,
    check_labels,
    from_strict_dict,
    read_json,
)
from aigid.errors import CheckpointError, ContractError
from aigid.records import DEFAULT_LABELS
from aigid.storage import staged_folder
from aigid.training.encoders import image_encoder_from_config, text_encoder_from_config
from aigid.training.fingerprints import encoders_fingerprint, model_fingerprint
from aigid.training.fusion_model import FusionModel
from aigid.training.model_card import checkpoint_card, write_card

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class CheckpointInfo:
    """The content of config.json: everything about a model but its weights.

    `text_config` and `image_config` are configs of transformers. `training` records the run that
    made the model (`RunRecord`), for people to read: other versions may write other keys there.
    """

    name: str
    notice: str
    text_config: dict[str, Any]
    image_config: dict[str, Any]
    fusion_hidden: int
    image: ImageSpec = field(default_factory=ImageSpec)
    prompt: PromptSpec = field(default_factory=PromptSpec)
    labels: tuple[str, ...] = DEFAULT_LABELS
    temperatures: Temperatures = field(default_factory=Temperatures)
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    miss_thresholds: dict[str, MissThreshold] = field(default_factory=dict)
    open_set: OpenSet | None = None
    fitted_on: FittedOn | None = None
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        check_labels(self.labels, self.open_set)
        if not (isinstance(self.text_config, dict) and isinstance(self.image_config, dict)):
            raise ContractError("text_config and image_config must be objects")
        if not (isinstance(self.fusion_hidden, int) and self.fusion_hidden > 0):
            raise ContractError(
                f"fusion_hidden must be a whole number above 0: got {self.fusion_hidden!r}"
            )


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model.

    `fingerprint` differs between models that give different answers, and `encoders_fingerprint`
    between those whose encoders give different features.
    """

    model: FusionModel
    info: CheckpointInfo
    tokenizer_file: Path
    fingerprint: str
    encoders_fingerprint: str


def new_model(info: CheckpointInfo) -> FusionModel:
    """Return a model of this architecture with random weights."""
    text = text_encoder_from_config(info.text_config)
    image = image_encoder_from_config(info.image_config)
    return FusionModel(text, image, info.image, info.fusion_hidden, len(info.labels))


def save_checkpoint(
    model: FusionModel,
    info: CheckpointInfo,
    tokenizer_file: Path,
    folder: Path,
    *,
    half: bool = False,
) -> None:
    """Write a checkpoint folder, whole or not at all.

    `half` stores the weights as float16, in half the space.
    """
    dtype = torch.float16 if half else torch.float32
    weights = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    with staged_folder(folder) as staging:
        save_tensors(weights, staging / WEIGHTS_FILE)
        (staging / CONFIG_FILE).write_text(
            json.dumps(dataclasses.asdict(info), indent=2) + "\n", encoding="utf-8"
        )
        shutil.copyfile(tokenizer_file, staging / TOKENIZER_FILE)
        write_card(checkpoint_card(info), staging)


def save_tensors(
    tensors: dict[str, Tensor], file: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors to a safetensors file; the umask decides who can read a new one.

    safetensors itself writes through a temporary file that its owner alone can read.
    """
    file.touch()
    mode = file.stat().st_mode
    save_file(tensors, file, metadata)
    file.chmod(mode)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder; weights become float32, and the model is in evaluation mode.

    Raises CheckpointError where a file is missing or damaged, or the weights do not fit the
    architecture.
    """
    if (folder / CONTRACT_FILE).is_file():
        raise CheckpointError(f"{folder}: a model repository, not a checkpoint")
    for name in (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: not a whole checkpoint: it has no {name}")
    try:
        info: CheckpointInfo = from_strict_dict(
            CheckpointInfo, read_json(folder / CONFIG_FILE, "a checkpoint's config"), CONFIG_FILE
        )
        model = new_model(info)
    except (ContractError, CheckpointError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    load_weights(model, folder / WEIGHTS_FILE)
    tokenizer_file = folder / TOKENIZER_FILE
    encoders = encoders_fingerprint(model, info, tokenizer_file)
    whole = model_fingerprint(model, encoders, info.labels, info.temperatures, info.open_set)
    return Checkpoint(model.eval(), info, tokenizer_file, whole, encoders)


def load_weights(model: FusionModel, file: Path) -> None:
    """Load a safetensors file into a model; raises CheckpointError where it does not fit."""
    weights = read_weights(file)
    check_weights(model.state_dict(), weights, file)
    model.load_state_dict(weights)


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file as float32.

    Raises CheckpointError where it is missing or damaged.
    """
    try:
        return {name: value.float() for name, value in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: damaged: {error}") from error


def check_weights(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], file: Path) -> None:
    """Raise CheckpointError where `found` has not the names and shapes of `expected`.

    The message counts the weights that are missing, unknown or of another shape, and names some.
    """
    misshapen = sorted(
        name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape
    )
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "of another shape": misshapen,
    }
    reasons = [
        f"{len(names)} {problem} ({', '.join(names[:5])})"
        for problem, names in problems.items()
        if names
    ]
    if reasons:
        raise CheckpointError(
            f"{file}: the weights do not fit the architecture: {'; '.join(reasons)}"
        )
