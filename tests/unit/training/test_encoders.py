import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, BertConfig, CLIPConfig, CLIPModel

from aigid.contract import ImageSpec
from aigid.errors import CheckpointError
from aigid.training.encoders import (
    IMAGE_ENCODERS,
    encoder_width,
    image_encoder_from_config,
    load_image_encoder,
    load_text_encoder,
    text_encoder_from_config,
)
from aigid.training.fusion_model import FusionModel

WIDTH = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
BERT = BertConfig(vocab_size=50, max_position_embeddings=16, **WIDTH)
WEIGHTS = "model.safetensors"


def pixels(rows: int, side: int = 32) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(2).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)
    )


def save_bert(folder: Path) -> dict[str, torch.Tensor]:
    """Save a text encoder as a pretrained one and return its weights."""
    torch.manual_seed(1)
    AutoModel.from_config(BERT).save_pretrained(folder)
    return load_file(folder / WEIGHTS)


def test_the_unused_pooler_of_the_text_encoder_is_left_out(
    tiny_model: FusionModel, tmp_path: Path
) -> None:
    assert not [name for name in tiny_model.state_dict() if "pooler" in name]
    save_bert(tmp_path)
    assert not [name for name in load_text_encoder(str(tmp_path)).state_dict() if "pooler" in name]


def test_a_pretrained_text_encoder_comes_with_its_weights(minilm: Path) -> None:
    encoder = load_text_encoder(str(minilm))
    saved = load_file(minilm / WEIGHTS)
    state = encoder.state_dict()
    # The pooler is left out, and the constant positions that old versions saved.
    assert set(saved) - set(state) == {
        "pooler.dense.bias",
        "pooler.dense.weight",
        "embeddings.position_ids",
    }
    assert all(torch.equal(saved[name], value) for name, value in state.items())
    assert encoder_width(encoder) == 384


def test_the_layout_of_old_hub_files_is_read(tmp_path: Path) -> None:
    # bert-base-uncased on the hub: a prefix, gamma and beta, and the heads of its pretraining.
    state = save_bert(tmp_path)
    old = {
        "bert."
        + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): state[name]
        for name in state
    }
    old = {name: value + 0.5 for name, value in old.items()}
    save_file(
        {**old, "cls.predictions.bias": torch.zeros(50)},
        tmp_path / WEIGHTS,
        metadata={"format": "pt"},
    )
    for name, value in load_text_encoder(str(tmp_path)).state_dict().items():
        assert torch.equal(value, state[name] + 0.5), name


def test_the_image_encoder_of_a_whole_clip_model_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(2)
    text = {**WIDTH, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    clip = CLIPModel(
        CLIPConfig(text_config=text, vision_config={**WIDTH, "image_size": 32, "patch_size": 8})
    )
    clip.save_pretrained(tmp_path)
    encoder = load_image_encoder(str(tmp_path))
    own = clip.vision_model.state_dict()
    assert own.keys() == encoder.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in encoder.state_dict().items())


def _damage(folder: Path, how: str) -> str:
    """Damage an encoder's folder and return what the error should contain."""
    weights, state = folder / WEIGHTS, load_file(folder / WEIGHTS)
    name = "encoder.layer.0.output.dense.weight"
    if how == "pickle only":
        torch.save(state, folder / "pytorch_model.bin")
        weights.unlink()
        return "no file named model.safetensors"
    if how == "missing weights":
        del state[name]
        save_file(state, weights, metadata={"format": "pt"})
        return f"lack {name}"
    if how == "weights of another shape":
        save_file({**state, name: torch.zeros(3, 3)}, weights, metadata={"format": "pt"})
        return "no encoder can be loaded"
    if how == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-100])
        return "no encoder can be loaded"
    if how == "no weights at all":
        weights.write_bytes(b"")
        return "no encoder can be loaded"
    if how == "config of a wrong type":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "hidden_size": "wide"}))
        return "hidden_size"
    if how == "config without a type":
        (folder / "config.json").write_text("{}")
        return "model_type"
    shutil.rmtree(folder)
    return "no encoder can be loaded"


@pytest.mark.parametrize(
    "how",
    [
        "pickle only",
        "missing weights",
        "weights of another shape",
        "truncated weights",
        "no weights at all",
        "config of a wrong type",
        "config without a type",
        "no folder",
    ],
)
def test_an_unusable_folder_is_refused_in_one_line(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    save_bert(folder)
    message = _damage(folder, how)
    with pytest.raises(CheckpointError) as refused:
        load_text_encoder(str(folder))
    assert str(folder) in str(refused.value)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_swapped_encoders_are_refused(tmp_path: Path) -> None:
    save_bert(tmp_path / "text")
    image_encoder_from_config({**WIDTH, "image_size": 32, "patch_size": 8}).save_pretrained(
        tmp_path / "image"
    )
    with pytest.raises(CheckpointError, match="model_type is bert; image encoders are"):
        load_image_encoder(str(tmp_path / "text"))
    with pytest.raises(CheckpointError, match="not a text encoder: it holds a CLIPVisionModel"):
        load_text_encoder(str(tmp_path / "image"))


def test_a_hub_id_without_a_network_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without this the hub's client tries again for half a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        CheckpointError, match="no-such-owner/no-such-model: no encoder can be loaded"
    ) as refused:
        load_image_encoder("no-such-owner/no-such-model")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vocab_size": 50}, "model_type is missing"),
        ({"model_type": "no-such-type"}, "no-such-type"),
        ({"model_type": "bert", "hidden_size": "wide"}, "hidden_size"),
        ({"model_type": "bert", "hidden_size": 10, "num_attention_heads": 3}, "multiple"),
        ({"model_type": "bert", "hidden_act": "no-such-function"}, "no-such-function"),
    ],
)
def test_an_unusable_text_config_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as refused:
        text_encoder_from_config(config)
    assert str(refused.value).startswith("text_config: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "vit"}, "model_type is vit"),
        ({"patch_size": "x"}, "patch_size"),
        ({"hidden_size": 10}, "multiple"),
    ],
)
def test_an_unusable_image_config_is_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as refused:
        image_encoder_from_config(config)
    assert str(refused.value).startswith("image_config: ")


TINY_IMAGE = {**WIDTH, "image_size": 32, "patch_size": 8}


@pytest.mark.parametrize("kind", IMAGE_ENCODERS)
@torch.no_grad()
def test_every_kind_of_image_encoder_is_saved_loaded_and_pooled(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = image_encoder_from_config({"model_type": kind, **TINY_IMAGE}).eval()
    made.save_pretrained(tmp_path)
    loaded = load_image_encoder(str(tmp_path)).eval()
    assert type(loaded) is type(made)
    assert all(
        torch.equal(made.state_dict()[name], value) for name, value in loaded.state_dict().items()
    )
    features = FusionModel(AutoModel.from_config(BERT), loaded, ImageSpec(size=32)).image_features(
        pixels(3)
    )
    assert features.shape == (3, encoder_width(loaded))


@pytest.mark.parametrize("kind", ["metaclip_2", "siglip"])
def test_the_image_encoder_of_a_whole_model_is_loaded(kind: str, tmp_path: Path) -> None:
    text = {
        **WIDTH,
        "vocab_size": 50,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "projection_size": 16,
    }
    config = AutoConfig.for_model(kind, text_config=text, vision_config=TINY_IMAGE)
    whole = AutoModel.from_config(config)
    whole.save_pretrained(tmp_path)
    encoder = load_image_encoder(str(tmp_path))
    own = whole.vision_model.state_dict()
    assert own.keys() == encoder.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in encoder.state_dict().items())


def test_half_precision_weights_are_trained_as_float32(tmp_path: Path) -> None:
    image_encoder_from_config(TINY_IMAGE).half().save_pretrained(tmp_path)
    assert {
        value.dtype
        for value in load_image_encoder(str(tmp_path)).state_dict().values()
        if value.is_floating_point()
    } == {torch.float32}


def test_unused_weights_are_not_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = {**WIDTH, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    CLIPModel(CLIPConfig(text_config=text, vision_config=TINY_IMAGE)).save_pretrained(tmp_path)
    capfd.readouterr()
    load_image_encoder(str(tmp_path))
    assert "UNEXPECTED" not in "".join(capfd.readouterr())
