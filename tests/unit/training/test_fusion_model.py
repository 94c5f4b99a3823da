import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoModel, BertConfig, CLIPConfig, CLIPModel

from aigid.contract import ImageSpec, PromptSpec
from aigid.errors import CheckpointError
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.training.checkpoint import CheckpointInfo, new_model
from aigid.training.fusion_model import (
    FusionModel,
    encoder_width,
    image_encoder_from_config,
    load_image_encoder,
    load_text_encoder,
    text_encoder_from_config,
)

WIDTH = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT = BertConfig(vocab_size=50, max_position_embeddings=16, **WIDTH)
WEIGHTS = "model.safetensors"


def pixels(rows: int, side: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(2).integers(0, 256, (rows, side, side, 3), dtype=np.uint8))


def tokens(rows: int, length: int, padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.from_numpy(np.random.default_rng(3).integers(1, 30522, (rows, length)).astype(np.int32))
    return functional.pad(ids, (0, padding)), functional.pad(torch.ones_like(ids), (0, padding))


def save_bert(folder: Path) -> dict[str, torch.Tensor]:
    """A pretrained text encoder's folder; gives its weights back."""
    torch.manual_seed(1)
    AutoModel.from_config(BERT).save_pretrained(folder)
    return load_file(folder / WEIGHTS)


@torch.no_grad()
def test_text_comes_first_and_image_after_it(tiny_model: FusionModel) -> None:
    text, image = torch.randn(3, 16), torch.randn(3, 16)
    found = tiny_model.fuse(text, image)
    state = tiny_model.state_dict()
    columns = state["fusion.weight"]
    hidden = torch.relu(text @ columns[:, :16].T + image @ columns[:, 16:].T + state["fusion.bias"])
    torch.testing.assert_close(found.a, hidden @ state["head_a.weight"][0] + state["head_a.bias"][0])
    torch.testing.assert_close(found.b, hidden @ state["head_b.weight"].T + state["head_b.bias"])


@torch.no_grad()
def test_logits_are_one_and_six_for_each_pair(tiny_model: FusionModel) -> None:
    found = tiny_model(pixels(3), *tokens(3, 8))
    assert (found.a.shape, found.b.shape) == ((3,), (3, 6))


def test_encoders_of_different_widths_are_fused(tiny_info: CheckpointInfo) -> None:
    wide = {**tiny_info.image_config, "hidden_size": 24}
    model = new_model(replace(tiny_info, image_config=wide, fusion_hidden=10))
    assert model.fusion.weight.shape == (10, 16 + 24)
    assert (encoder_width(model.text_encoder), encoder_width(model.image_encoder)) == (16, 24)


@torch.no_grad()
def test_pixels_are_normalised_inside(tiny_info: CheckpointInfo, tiny_model: FusionModel) -> None:
    image = pixels(2)
    mean, std = torch.tensor(ImageSpec().mean), torch.tensor(ImageSpec().std)
    by_hand = ((image.double() / 255 - mean) / std).permute(0, 3, 1, 2).float()
    expected = tiny_model.image_encoder(pixel_values=by_hand).pooler_output
    torch.testing.assert_close(tiny_model.image_features(image), expected, rtol=1e-4, atol=1e-5)
    other = FusionModel(tiny_model.text_encoder, tiny_model.image_encoder, replace(tiny_info.image, mean=(0.5, 0.5, 0.5)))
    assert not torch.allclose(other.image_features(image), expected, atol=1e-3)


@torch.no_grad()
def test_text_features_are_the_first_token_s_vector_of_the_last_layer(tiny_model: FusionModel) -> None:
    ids, mask = tokens(2, 9)
    output = tiny_model.text_encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    assert torch.equal(tiny_model.text_features(ids, mask), output.hidden_states[-1][:, 0])


@torch.no_grad()
def test_padding_does_not_change_the_answer(tiny_model: FusionModel) -> None:
    image = pixels(3)
    short, padded = tiny_model(image, *tokens(3, 7)), tiny_model(image, *tokens(3, 7, padding=25))
    torch.testing.assert_close(padded.a, short.a, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(padded.b, short.b, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_prompt_s_padding_by_its_batch_does_not_change_its_answer(
    tiny_model: FusionModel, tokenizer_file: Path, tiny_info: CheckpointInfo
) -> None:
    prompts = PromptEncoder(tokenizer_file, tiny_info.prompt)
    ids = prompts.token_ids(["a red car", "a long walk along the quiet river on the last warm day of a very long summer"])
    image = pixels(2)

    def answer(bucket: int, rows: list[int]) -> torch.Tensor:
        batch = pad_to_bucket([ids[row] for row in rows], bucket)
        return tiny_model(image[rows], torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)).a

    torch.testing.assert_close(answer(32, [0, 1])[:1], answer(8, [0]), rtol=1e-5, atol=1e-6)


def test_the_unused_pooler_of_the_text_encoder_is_left_out(tiny_model: FusionModel, tmp_path: Path) -> None:
    assert not [name for name in tiny_model.state_dict() if "pooler" in name]
    save_bert(tmp_path)
    assert not [name for name in load_text_encoder(str(tmp_path)).state_dict() if "pooler" in name]


def test_a_pretrained_text_encoder_comes_with_its_weights(minilm: Path) -> None:
    encoder = load_text_encoder(str(minilm))
    saved = load_file(minilm / WEIGHTS)
    state = encoder.state_dict()
    # What is left out is the pooler, and the constant positions that old versions saved.
    assert set(saved) - set(state) == {"pooler.dense.bias", "pooler.dense.weight", "embeddings.position_ids"}
    assert all(torch.equal(saved[name], value) for name, value in state.items())
    assert encoder_width(encoder) == 384


@torch.no_grad()
def test_a_pretrained_text_encoder_tells_meanings_apart(minilm: Path, tiny_model: FusionModel) -> None:
    model = FusionModel(load_text_encoder(str(minilm)).eval(), tiny_model.image_encoder, ImageSpec())
    prompts = PromptEncoder(minilm / "tokenizer.json", PromptSpec())
    batch = pad_to_bucket(prompts.token_ids(["a dog on the beach", "a puppy at the sea", "quarterly tax return"]), 16)
    found = model.text_features(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))
    likeness = functional.cosine_similarity(found[0], found[1:])
    assert likeness[0] > likeness[1] + 0.2


def test_the_layout_of_old_hub_files_is_understood(tmp_path: Path) -> None:
    # bert-base-uncased on the hub: a prefix, gamma and beta, and the heads of its pretraining.
    state = save_bert(tmp_path)
    old = {"bert." + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): state[name] for name in state}
    old = {name: value + 0.5 for name, value in old.items()}
    save_file({**old, "cls.predictions.bias": torch.zeros(50)}, tmp_path / WEIGHTS, metadata={"format": "pt"})
    for name, value in load_text_encoder(str(tmp_path)).state_dict().items():
        assert torch.equal(value, state[name] + 0.5), name


def test_the_image_encoder_of_a_whole_clip_model_is_taken(tmp_path: Path) -> None:
    torch.manual_seed(2)
    text = {**WIDTH, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config={**WIDTH, "image_size": 32, "patch_size": 8}))
    clip.save_pretrained(tmp_path)
    encoder = load_image_encoder(str(tmp_path))
    own = clip.vision_model.state_dict()
    assert own.keys() == encoder.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in encoder.state_dict().items())


def _damage(folder: Path, how: str) -> str:
    """Damage an encoder's folder; gives what the refusal should say."""
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
    if how == "misshapen weights":
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
        "misshapen weights",
        "truncated weights",
        "no weights at all",
        "config of a wrong type",
        "config without a type",
        "no folder",
    ],
)
def test_a_folder_that_will_not_do_is_refused_in_one_line(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    save_bert(folder)
    said = _damage(folder, how)
    with pytest.raises(CheckpointError) as refused:
        load_text_encoder(str(folder))
    assert str(folder) in str(refused.value)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_encoders_in_each_other_s_place_are_refused(tmp_path: Path) -> None:
    save_bert(tmp_path / "text")
    image_encoder_from_config({**WIDTH, "image_size": 32, "patch_size": 8}).save_pretrained(tmp_path / "image")
    with pytest.raises(CheckpointError, match="lack embeddings.class_embedding"):
        load_image_encoder(str(tmp_path / "text"))
    with pytest.raises(CheckpointError, match="not a text encoder: it holds a CLIPVisionModel"):
        load_text_encoder(str(tmp_path / "image"))


def test_a_hub_id_without_a_network_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without this the hub's client tries again for half a minute.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="no-such-owner/no-such-model: no encoder can be loaded") as refused:
        load_image_encoder("no-such-owner/no-such-model")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"vocab_size": 50}, "model_type is missing"),
        ({"model_type": "no-such-type"}, "no-such-type"),
        ({"model_type": "bert", "hidden_size": "wide"}, "hidden_size"),
        ({"model_type": "bert", "hidden_size": 10, "num_attention_heads": 3}, "multiple"),
        ({"model_type": "bert", "hidden_act": "no-such-function"}, "no-such-function"),
    ],
)
def test_a_text_config_that_will_not_do_is_refused(config: dict[str, object], said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as refused:
        text_encoder_from_config(config)
    assert str(refused.value).startswith("text_config: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [({"model_type": "vit"}, "model_type is vit"), ({"patch_size": "x"}, "patch_size"), ({"hidden_size": 10}, "multiple")],
)
def test_an_image_config_that_will_not_do_is_refused(config: dict[str, object], said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as refused:
        image_encoder_from_config(config)
    assert str(refused.value).startswith("image_config: ")
