"""Perception Encoder against timm's implementation, and its checkpoints in timm's layout."""

import json
from pathlib import Path

import pytest
import torch
from references.perception_encoder import FORMS, REFERENCE, SIDE, weights_and_pixels
from safetensors.torch import save_file
from torch import Tensor, nn

from aigid.errors import CheckpointError
from aigid.training.encoders import image_encoder_from_config, load_image_encoder
from aigid.training.perception_encoder import (
    PerceptionEncoder,
    PerceptionEncoderConfig,
    config_of_timm,
)

TINY = {
    "model_type": "perception_encoder",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pool_heads": 4,
    "patch_size": 8,
    "image_size": SIDE,
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_tokens_and_pooled_output_are_timm_s(form: str, attention: str) -> None:
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))[form]
    encoder: nn.Module = image_encoder_from_config(
        {**TINY, "class_token": FORMS[form]["class_token"]}
    ).eval()
    assert isinstance(encoder, PerceptionEncoder)
    encoder.set_attn_implementation(attention)
    weights, pixels = weights_and_pixels(encoder.state_dict())
    encoder.load_state_dict(weights)
    output = encoder(pixel_values=pixels)
    found = {"tokens_mean": output.last_hidden_state.mean(dim=1), "pooled": output.pooler_output}
    for name, values in found.items():
        torch.testing.assert_close(values, torch.tensor(reference[name]), rtol=1e-5, atol=1e-5)


def write_timm_checkpoint(folder: Path, architecture: str) -> dict[str, Tensor]:
    """Write a checkpoint as timm's are on the hub, with a head; return the encoder's weights."""
    folder.mkdir()
    config = {
        "architecture": architecture,
        "num_classes": 512,
        "num_features": 192,
        "global_pool": "map",
        "pretrained_cfg": {"input_size": [3, 384, 384], "interpolation": "bicubic"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    weights = PerceptionEncoder(config_of_timm(architecture)).state_dict()
    head = {"head.weight": torch.zeros(512, 192), "head.bias": torch.zeros(512)}
    save_file({**weights, **head}, folder / "model.safetensors", metadata={"format": "pt"})
    return weights


def test_a_checkpoint_of_timm_is_loaded_whole_and_cut(tmp_path: Path) -> None:
    weights = write_timm_checkpoint(tmp_path / "pe", "vit_pe_core_tiny_patch16_384")
    whole = load_image_encoder(str(tmp_path / "pe")).state_dict()
    assert whole.keys() == weights.keys()
    assert all(torch.equal(weights[name], value) for name, value in whole.items())
    cut = load_image_encoder(str(tmp_path / "pe"), layer=1).state_dict()
    assert max(int(name.split(".")[1]) for name in cut if name.startswith("blocks.")) == 1
    assert not [name for name in cut if name.startswith(("norm.", "attn_pool."))]
    assert all(torch.equal(weights[name], value) for name, value in cut.items())


def test_other_checkpoints_of_timm_are_refused_with_those_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "vit_pe_lang_large_patch14_448", "pretrained_cfg": {}})
    )
    with pytest.raises(CheckpointError, match="vit_pe_lang_large_patch14_448: .*vit_pe_core_tiny"):
        load_image_encoder(str(tmp_path))


def test_an_encoder_that_was_saved_is_loaded(tmp_path: Path) -> None:
    made = image_encoder_from_config({**TINY, "class_token": False})
    made.save_pretrained(tmp_path)
    loaded = load_image_encoder(str(tmp_path))
    assert isinstance(loaded.config, PerceptionEncoderConfig)
    assert loaded.config.class_token is False
    assert all(
        torch.equal(made.state_dict()[name], value) for name, value in loaded.state_dict().items()
    )


def test_the_sizes_are_those_of_the_paper() -> None:
    # In billions of parameters.
    sizes = {"base_patch16_224": 0.09, "large_patch14_336": 0.32, "gigantic_patch14_448": 1.88}
    for name, size in sizes.items():
        with torch.device("meta"):
            encoder = PerceptionEncoder(config_of_timm(f"vit_pe_core_{name}"))
        assert round(sum(one.numel() for one in encoder.parameters()) / 1e9, 2) == size
