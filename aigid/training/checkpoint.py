"""A checkpoint: a folder of model.safetensors, config.json and tokenizer.json, without any pickle."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from aigid.contract import (
    TOKENIZER_FILE,
    ImageSpec,
    PromptSpec,
    Temperatures,
    from_strict_dict,
    model_fingerprint,
    read_json,
)
from aigid.errors import CheckpointError, ContractError
from aigid.storage import replace_folder
from aigid.training.encoders import image_encoder_from_config, text_encoder_from_config
from aigid.training.fusion_model import FusionModel

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class CheckpointInfo:
    """All of a model but its weights; `training` holds the facts of the run that made it."""

    name: str
    notice: str
    text_config: dict[str, Any]
    image_config: dict[str, Any]
    fusion_hidden: int
    image: ImageSpec = field(default_factory=ImageSpec)
    prompt: PromptSpec = field(default_factory=PromptSpec)
    temperatures: Temperatures = field(default_factory=Temperatures)
    thresholds: dict[str, float] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (isinstance(self.text_config, dict) and isinstance(self.image_config, dict)):
            raise ContractError("text_config and image_config must be objects")
        if not (isinstance(self.fusion_hidden, int) and self.fusion_hidden > 0):
            raise ContractError(
                f"fusion_hidden must be a whole number above 0: got {self.fusion_hidden!r}"
            )


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model; `fingerprint` changes with anything that changes its answers."""

    model: FusionModel
    info: CheckpointInfo
    tokenizer_file: Path
    fingerprint: str


def new_model(info: CheckpointInfo) -> FusionModel:
    """A model of this architecture with random weights."""
    text, image = (
        text_encoder_from_config(info.text_config),
        image_encoder_from_config(info.image_config),
    )
    return FusionModel(text, image, info.image, info.fusion_hidden)


def save_checkpoint(
    model: FusionModel,
    info: CheckpointInfo,
    tokenizer_file: Path,
    folder: Path,
    *,
    half: bool = False,
) -> None:
    """Write a checkpoint folder, whole or not at all; `half` stores the weights as float16, at half the size."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        dtype = torch.float16 if half else torch.float32
        save_file(
            {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()},
            temporary / WEIGHTS_FILE,
        )
        (temporary / CONFIG_FILE).write_text(
            json.dumps(dataclasses.asdict(info), indent=2) + "\n", encoding="utf-8"
        )
        shutil.copyfile(tokenizer_file, temporary / TOKENIZER_FILE)
        temporary.chmod(0o755)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder; weights become float32, the model is in evaluation mode.

    Raises CheckpointError where a file is missing or damaged, or the weights do not fit the architecture.
    """
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
    return Checkpoint(model.eval(), info, folder / TOKENIZER_FILE, _fingerprint(folder, info))


def load_weights(model: FusionModel, file: Path) -> None:
    """Load a safetensors file into a model; raises CheckpointError that names what is missing, left over or misshapen."""
    state = read_weights(file)
    check_weights(model.state_dict(), state, file)
    model.load_state_dict(state)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file as float32; raises CheckpointError where it is damaged."""
    try:
        return {key: value.float() for key, value in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: damaged: {error}") from error


def check_weights(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], file: Path) -> None:
    """Raise CheckpointError that names what `found` lacks, has too much of, or has in another shape than `expected`."""
    misshapen = sorted(
        key for key in expected.keys() & found.keys() if expected[key].shape != found[key].shape
    )
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unknown": sorted(found.keys() - expected.keys()),
        "misshapen": misshapen,
    }
    said = [
        f"{len(keys)} {what} ({', '.join(keys[:5])})" for what, keys in problems.items() if keys
    ]
    if said:
        raise CheckpointError(
            f"{file}: its weights are not of this architecture: {'; '.join(said)}"
        )


def _fingerprint(folder: Path, info: CheckpointInfo) -> str:
    facts = {
        key: value
        for key, value in dataclasses.asdict(info).items()
        if key not in ("name", "notice", "thresholds", "training")
    }
    return model_fingerprint(
        (folder / WEIGHTS_FILE).read_bytes(), (folder / TOKENIZER_FILE).read_bytes(), facts
    )
