from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from aigid.contract import ImageSpec, PromptSpec
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.training.checkpoint import CheckpointInfo, new_model
from aigid.training.encoders import encoder_width, load_text_encoder
from aigid.training.fusion_model import FusionModel


def pixels(rows: int, side: int = 32) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(2).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)
    )


def tokens(rows: int, length: int, padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.from_numpy(
        np.random.default_rng(3).integers(1, 30522, (rows, length)).astype(np.int32)
    )
    return functional.pad(ids, (0, padding)), functional.pad(torch.ones_like(ids), (0, padding))


@torch.no_grad()
def test_text_comes_first_and_image_after_it(tiny_model: FusionModel) -> None:
    text, image = torch.randn(3, 16), torch.randn(3, 16)
    found = tiny_model.fuse(text, image)
    state = tiny_model.state_dict()
    columns = state["fusion.weight"]
    hidden = torch.relu(text @ columns[:, :16].T + image @ columns[:, 16:].T + state["fusion.bias"])
    torch.testing.assert_close(
        found.a, hidden @ state["head_a.weight"][0] + state["head_a.bias"][0]
    )
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
    other = FusionModel(
        tiny_model.text_encoder,
        tiny_model.image_encoder,
        replace(tiny_info.image, mean=(0.5, 0.5, 0.5)),
    )
    assert not torch.allclose(other.image_features(image), expected, atol=1e-3)


@torch.no_grad()
def test_text_features_are_the_first_token_s_vector_of_the_last_layer(
    tiny_model: FusionModel,
) -> None:
    ids, mask = tokens(2, 9)
    output = tiny_model.text_encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    assert torch.equal(tiny_model.text_features(ids, mask), output.hidden_states[-1][:, 0])


@torch.no_grad()
def test_padding_does_not_change_the_logits(tiny_model: FusionModel) -> None:
    image = pixels(3)
    short, padded = tiny_model(image, *tokens(3, 7)), tiny_model(image, *tokens(3, 7, padding=25))
    torch.testing.assert_close(padded.a, short.a, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(padded.b, short.b, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_longer_prompt_in_the_batch_does_not_change_a_prompt_s_logits(
    tiny_model: FusionModel, tokenizer_file: Path, tiny_info: CheckpointInfo
) -> None:
    prompts = PromptEncoder(tokenizer_file, tiny_info.prompt)
    ids = prompts.token_ids(
        [
            "a red car",
            "a long walk along the quiet river on the last warm day of a very long summer",
        ]
    )
    image = pixels(2)

    def logits_of(bucket: int, rows: list[int]) -> torch.Tensor:
        batch = pad_to_bucket([ids[row] for row in rows], bucket)
        return tiny_model(
            image[rows], torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
        ).a

    torch.testing.assert_close(logits_of(32, [0, 1])[:1], logits_of(8, [0]), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_pretrained_text_encoder_tells_meanings_apart(
    minilm: Path, tiny_model: FusionModel
) -> None:
    model = FusionModel(
        load_text_encoder(str(minilm)).eval(), tiny_model.image_encoder, ImageSpec()
    )
    prompts = PromptEncoder(minilm / "tokenizer.json", PromptSpec())
    batch = pad_to_bucket(
        prompts.token_ids(["a dog on the beach", "a puppy at the sea", "quarterly tax return"]), 16
    )
    found = model.text_features(
        torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
    )
    similarity = functional.cosine_similarity(found[0], found[1:])
    assert similarity[0] > similarity[1] + 0.2
