"""The preprocessing that an image encoder was pretrained with: size, resizing, mean and std."""

import json
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn
from transformers.utils.hub import cached_file

from aigid.contract import ImageSpec, Resizing
from aigid.errors import CheckpointError, ContractError

# These take images of any size: their preprocessor's file tells the usual one.
_ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit")
# Newer versions of transformers write the second file, which holds the whole processor.
_FILES = ("preprocessor_config.json", "processor_config.json")
# Perception Encoder's, whose checkpoints come without such a file. (timm's own transform for them
# crops, and resizes with a bicubic filter; they were trained on squashed images.)
_PERCEPTION_ENCODER: dict[str, Any] = {
    "size": {"height": 0, "width": 0},
    "resample": Image.Resampling.BILINEAR,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def image_spec_of(
    encoder: nn.Module, name_or_folder: str | None, resizing: Resizing | None
) -> ImageSpec:
    """Return the size, resizing, mean and std that an image encoder was pretrained with.

    `resizing` overrides the encoder's own. All are CLIP's where `name_or_folder` is None or has no
    preprocessor_config.json. Raises CheckpointError where that file is damaged.
    """
    config: Any = encoder.config
    values, source = ({}, "") if name_or_folder is None else _read_preprocessor(name_or_folder)
    if not values and config.model_type == "perception_encoder":
        values = _PERCEPTION_ENCODER
    size = int(config.image_size)
    if config.model_type in _ANY_SIZE:
        size = _side_of(values.get("crop_size")) or _side_of(values.get("size")) or size
    normalisation = {
        name: values[key]
        for name, key in (("mean", "image_mean"), ("std", "image_std"))
        if values.get(key)
    }
    try:
        return ImageSpec(size=size, resizing=resizing or _resizing_of(values), **normalisation)
    except (ContractError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from error


def _read_preprocessor(name_or_folder: str) -> tuple[dict[str, Any], str]:
    """Return the values of the preprocessor's file, and its name for errors; none if it has none.

    Raises CheckpointError where the file is damaged.
    """
    for name in _FILES:
        source = f"{name_or_folder}: {name}"
        try:
            file: Any = cached_file(
                name_or_folder, name, _raise_exceptions_for_missing_entries=False
            )
            values = None if file is None else json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{source} cannot be read: {reason}") from error
        if values is None:
            continue
        if not isinstance(values, dict):
            raise CheckpointError(f"{source}: expected an object, got {type(values).__name__}")
        return values.get("image_processor") or values, source
    return {}, f"{name_or_folder}: {_FILES[0]}"


def _side_of(size: Any) -> int | None:
    """Return the side of the square that a preprocessor's size, a number or an object, gives."""
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height")
    return size if isinstance(size, int) else None


def _resizing_of(values: dict[str, Any]) -> Resizing:
    """Return the way of resizing that a preprocessor's values describe.

    What is not a squash is read as CLIP's preprocessing. DINOv2's resizes to 256 pixels before it
    crops 224 of them: here it keeps more of the image.
    """
    size = values.get("size")
    if not isinstance(size, dict) or "height" not in size:
        return Resizing.SHORTER_SIDE
    bilinear = values.get("resample") == Image.Resampling.BILINEAR
    return Resizing.SQUASH if bilinear else Resizing.SQUASH_BICUBIC
