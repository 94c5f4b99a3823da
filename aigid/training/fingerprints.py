"""Fingerprints: of both encoders with what they read, and of the whole model."""

import dataclasses
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from aigid.contract import OpenSet, Temperatures, fingerprint_of
from aigid.training.fusion_model import FusionModel
from aigid.training.heads import Heads

if TYPE_CHECKING:
    from aigid.training.checkpoint import CheckpointInfo


def pretrained_fingerprint(encoder: nn.Module) -> str | None:
    """Return the SHA-256 of a pretrained encoder's weights; None for one with random weights."""
    config: Any = encoder.config
    return fingerprint_of(_tensors(encoder), {}) if config.name_or_path else None


def encoders_fingerprint(model: FusionModel, info: "CheckpointInfo", tokenizer_file: Path) -> str:
    """Return the SHA-256 of all that a model's features depend on.

    These are the weights of both encoders, the tokenizer, and how images and prompts are prepared.
    """
    weights = chain(_tensors(model.text_encoder), _tensors(model.image_encoder))
    description = {
        "text_config": info.text_config,
        "image_config": info.image_config,
        "image": dataclasses.asdict(info.image),
        "prompt": dataclasses.asdict(info.prompt),
    }
    return fingerprint_of(chain(weights, [tokenizer_file.read_bytes()]), description)


def model_fingerprint(
    heads: Heads,
    encoders: str,
    labels: tuple[str, ...],
    temperatures: Temperatures,
    open_set: OpenSet | None,
) -> str:
    """Return the SHA-256 of all that a model's answers depend on.

    `encoders` is the fingerprint of its encoders.
    """
    description = {
        "encoders": encoders,
        "labels": labels,
        "temperatures": dataclasses.asdict(temperatures),
        "open_set": None if open_set is None else open_set.threshold,
    }
    return fingerprint_of(_tensors(heads, without=("text_encoder.", "image_encoder.")), description)


def _tensors(module: nn.Module, without: tuple[str, ...] = ()) -> Iterator[bytes]:
    """Yield the name and the float32 values of each tensor, in the order of their names.

    A tensor whose name begins with one of `without` is left out.
    """
    for name, value in sorted(module.state_dict().items()):
        if not name.startswith(without):
            yield name.encode()
            yield value.float().cpu().numpy().tobytes()
