"""Fingerprints: of both encoders with what they read, and of the whole model."""

import dataclasses
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn

from aigid.contract import OpenSet, Temperatures, fingerprint_of
from aigid.training.heads import Heads


def pretrained_fingerprint(encoder: nn.Module) -> str | None:
    """Return the SHA-256 of a pretrained encoder's weights; None for one with random weights."""
    config: Any = encoder.config
    return fingerprint_of(_tensors(encoder), {}) if config.name_or_path else None


def encoders_fingerprint(
    encoders: tuple[nn.Module, nn.Module], tokenizer_file: Path, description: dict[str, Any]
) -> str:
    """Return the SHA-256 of the weights of both encoders, of the tokenizer and of `description`."""
    weights = chain.from_iterable(_tensors(encoder) for encoder in encoders)
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
