"""Encoders that are cut after an inner block, and the features that are read there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from aigid.contract import ImageSpec
from aigid.errors import CheckpointError, UsageError
from aigid.training.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from aigid.training.encoders import (
    IMAGE_ENCODERS,
    encoder_width,
    image_encoder_from_config,
    load_image_encoder,
    text_encoder_from_config,
)
from aigid.training.fusion_model import FusionModel
from aigid.training.image_pooling import ImagePooling, image_features
from aigid.training.run import describe_model

TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
REGISTERS = {"num_register_tokens": 2}
# The blocks of each kind, the special tokens before its patches, and more of its config.
KINDS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "clip_vision_model": ("encoder.layers", 1, {}),
    "metaclip_2_vision_model": ("encoder.layers", 1, {}),
    "siglip_vision_model": ("encoder.layers", 0, {}),
    "dinov2": ("encoder.layer", 1, {}),
    "dinov2_with_registers": ("encoder.layer", 3, REGISTERS),
    "dinov3_vit": ("model.layer", 3, REGISTERS),
    "perception_encoder": ("blocks", 1, {}),
}
PATCHES = 16


def test_every_kind_of_image_encoder_is_here() -> None:
    assert KINDS.keys() == IMAGE_ENCODERS.keys()


def make_encoder(kind: str) -> nn.Module:
    torch.manual_seed(0)
    encoder = image_encoder_from_config({"model_type": kind, **TINY, **KINDS[kind][2]}).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            # Default weights are too small to tell the blocks apart.
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder


def block_output(encoder: nn.Module, kind: str, block: int, pixels: Tensor) -> Tensor:
    """Return what a block of a whole encoder passes on, [N, T, D]."""
    seen: list[Any] = []
    blocks: Any = encoder.get_submodule(KINDS[kind][0])
    handle = blocks[block].register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder(pixel_values=pixels)
    handle.remove()
    [output] = seen
    tokens: Tensor = output if isinstance(output, Tensor) else output[0]
    return tokens


def unit(vectors: Tensor) -> Tensor:
    return layer_norm(vectors, vectors.shape[1:])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_features_are_those_of_the_block_and_nothing_comes_after_it(
    kind: str, tmp_path: Path
) -> None:
    whole = make_encoder(kind)
    whole.save_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    tokens = block_output(whole, kind, 1, pixels)
    special = KINDS[kind][1]
    assert tokens.shape[1] == special + PATCHES
    mean, cls = unit(tokens[:, special:].mean(dim=1)), unit(tokens[:, 0])
    expected = {"mean": mean, "cls": cls, "cls+mean": torch.cat([cls, mean], dim=1)}
    for pooling in [*ImagePooling] if special else [ImagePooling.MEAN]:
        cut = load_image_encoder(str(tmp_path), 1, pooling).eval()
        torch.testing.assert_close(image_features(cut, pixels), expected[pooling])
        assert encoder_width(cut) == expected[pooling].shape[1]
        assert len(cut.get_submodule(KINDS[kind][0])) == cut.config.num_hidden_layers == 2
    kept = cut.state_dict()
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in kept.items())
    block = next(name for name in kept if name.startswith(f"{KINDS[kind][0]}.1."))
    after = list(whole.state_dict())[list(whole.state_dict()).index(block) :]
    dropped = [name for name in after if f"{KINDS[kind][0]}.1." not in name]
    assert dropped
    assert not set(dropped) & set(kept)


@pytest.mark.parametrize("kind", ["siglip_vision_model", "dinov2"])
def test_pooling_alone_reads_the_last_block_and_a_block_alone_its_patches(kind: str) -> None:
    config = {"model_type": kind, **TINY}
    last = image_encoder_from_config(config, pooling=ImagePooling.MEAN)
    assert (last.config.num_hidden_layers, last.config.image_pooling) == (3, "mean")
    first = image_encoder_from_config(config, 0)
    assert (first.config.num_hidden_layers, first.config.image_pooling) == (1, "mean")
    whole = image_encoder_from_config(config)
    assert not hasattr(whole.config, "image_pooling")


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_checkpoint_of_a_cut_encoder_is_smaller_and_gives_the_same_features(
    kind: str, tmp_path: Path, tiny_info: CheckpointInfo, tokenizer_file: Path
) -> None:
    make_encoder(kind).save_pretrained(tmp_path / "encoder")
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    text = text_encoder_from_config(tiny_info.text_config)

    def saved(layer: int | None) -> tuple[FusionModel, Path]:
        encoder = load_image_encoder(str(tmp_path / "encoder"), layer).eval()
        info = describe_model((text, encoder), ImageSpec(size=32), 8, name="", notice="")
        model = FusionModel(text, encoder, info.image, 8).eval()
        save_checkpoint(model, info, tokenizer_file, tmp_path / f"checkpoint-{layer}")
        return model, tmp_path / f"checkpoint-{layer}"

    (_, whole), (model, cut) = saved(None), saved(0)
    loaded = load_checkpoint(cut).model
    torch.testing.assert_close(loaded.image_features(images), model.image_features(images))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, cut)]
    width, hidden = TINY["hidden_size"], TINY["intermediate_size"]
    # At least two blocks of attention and MLP.
    assert sizes[0] - sizes[1] > 2 * 4 * (4 * width**2 + 2 * width * hidden)


@pytest.mark.parametrize(
    ("kind", "layer", "pooling", "message"),
    [
        ("clip_vision_model", 3, None, "`image_layer` must be from 0 to 2, .* got 3"),
        ("dinov2", 12, ImagePooling.CLS, "`image_layer` must be from 0 to 2, .* got 12"),
        ("dinov3_vit", -1, None, "`image_layer` must be from 0 to 2, .* got -1"),
        ("siglip_vision_model", 1, ImagePooling.CLS, "`image_pooling` cls needs a CLS token"),
        ("siglip_vision_model", None, ImagePooling.CLS_MEAN, r"`image_pooling` cls\+mean needs"),
    ],
)
def test_a_block_or_token_that_the_encoder_does_not_have_is_refused(
    kind: str, layer: int | None, pooling: ImagePooling | None, message: str, tmp_path: Path
) -> None:
    config = {"model_type": kind, **TINY}
    with pytest.raises(UsageError, match=f"^image_config: {message}"):
        image_encoder_from_config(config, layer, pooling)
    image_encoder_from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=f"^{tmp_path}: {message}"):
        load_image_encoder(str(tmp_path), layer, pooling)


def test_an_unknown_pooling_in_a_checkpoint_is_refused(tiny_info: CheckpointInfo) -> None:
    config = replace(tiny_info, image_config={**TINY, "image_pooling": "median"}).image_config
    with pytest.raises(CheckpointError, match="image_config: .*median"):
        image_encoder_from_config(config)
