from dataclasses import replace

import numpy as np
import pytest
import torch

from aigid.prompts import TokenBatch
from aigid.training.checkpoint import CheckpointInfo, new_model
from aigid.training.config import TrainingConfig
from aigid.training.encoders import IMAGE_ENCODERS
from aigid.training.fusion_model import FusionModel
from aigid.training.inference import apply_model
from aigid.training.training_batch import TrainingBatch
from aigid.training.tuning import merge_adapters, prepare_encoders, set_training_mode


@pytest.fixture
def batch() -> TrainingBatch:
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 30522, (5, 8)).astype(np.int32)
    labels = np.array([0, 1, 2, 3, 4])
    images = rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    return TrainingBatch(
        images, TokenBatch(ids, np.ones_like(ids)), (labels > 0).astype(int), labels, labels, 0
    )


def learn(model: FusionModel, batch: TrainingBatch) -> None:
    """Take a few optimizer steps on an arbitrary loss."""
    optimizer = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        logits = apply_model(model, batch)
        (logits.a.sum() + (logits.b * torch.arange(6)).sum()).backward()
        optimizer.step()


def encoder_weights(model: FusionModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if "encoder." in name}


def changed(before: dict[str, torch.Tensor], model: FusionModel) -> list[str]:
    now = model.state_dict()
    return [name for name, value in before.items() if not torch.equal(value, now[name])]


def test_frozen_encoders_stay_as_they_are_without_dropout(
    tiny_model: FusionModel, batch: TrainingBatch
) -> None:
    before = encoder_weights(tiny_model)
    prepare_encoders(tiny_model, TrainingConfig(encoders="frozen"))
    set_training_mode(tiny_model)
    assert not any(
        module.training for module in (tiny_model.text_encoder, tiny_model.image_encoder)
    )
    assert tiny_model.fusion.training
    fusion = tiny_model.fusion.weight.clone()
    learn(tiny_model, batch)
    assert not changed(before, tiny_model)
    assert not torch.equal(fusion, tiny_model.fusion.weight)


def test_low_rank_additions_change_the_function_only_once_trained(
    tiny_model: FusionModel, batch: TrainingBatch
) -> None:
    plain = apply_model(tiny_model, batch)
    prepare_encoders(tiny_model, TrainingConfig(encoders="lora", lora_rank=2))
    torch.testing.assert_close(apply_model(tiny_model.eval(), batch), plain)
    before = {name: value.clone() for name, value in tiny_model.named_parameters()}
    learn(tiny_model, batch)
    moved = {
        name
        for name, value in tiny_model.named_parameters()
        if not torch.equal(value, before[name])
    }
    assert all("lora_" in name for name in moved if "encoder." in name)
    assert any("text_encoder." in name for name in moved)
    assert any("image_encoder." in name for name in moved)
    assert {"fusion.weight", "head_a.weight", "head_b.weight"} <= moved


def test_merging_keeps_the_function_and_gives_the_plain_architecture(
    tiny_model: FusionModel, tiny_info: CheckpointInfo, batch: TrainingBatch
) -> None:
    before = encoder_weights(tiny_model)
    prepare_encoders(tiny_model, TrainingConfig(encoders="lora", lora_rank=2))
    learn(tiny_model, batch)
    plain = merge_adapters(tiny_model)
    assert plain.state_dict().keys() == new_model(tiny_info).state_dict().keys()
    torch.testing.assert_close(
        apply_model(plain.eval(), batch),
        apply_model(tiny_model.eval(), batch),
        rtol=1e-4,
        atol=1e-5,
    )
    for name in changed(before, plain):
        assert torch.linalg.matrix_rank(plain.state_dict()[name] - before[name], rtol=1e-3) <= 2
    # The model that is trained keeps its adapters.
    assert [name for name in tiny_model.state_dict() if "lora_" in name]


def test_merging_a_model_without_adapters_returns_it(tiny_model: FusionModel) -> None:
    prepare_encoders(tiny_model, TrainingConfig())
    assert merge_adapters(tiny_model) is tiny_model


@pytest.mark.parametrize("encoders", ["full", "lora"])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", IMAGE_ENCODERS)
def test_every_parameter_that_is_trained_gets_a_gradient(
    kind: str, cut: bool, encoders: str, tiny_info: CheckpointInfo, batch: TrainingBatch
) -> None:
    # On several processes torch refuses a model that leaves out parameters. SigLIP's head holds a
    # layer that it never calls.
    pooling = {"image_pooling": "mean"} if cut else {}
    config = {**tiny_info.image_config, "model_type": kind, **pooling}
    model = new_model(replace(tiny_info, image_config=config))
    prepare_encoders(model, TrainingConfig(encoders=encoders, lora_rank=2))
    learn(model, batch)
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert not idle
    if encoders == "lora":
        assert [name for name in model.state_dict() if "image_encoder." in name and "lora_" in name]
        assert (
            merge_adapters(model).state_dict().keys()
            == new_model(replace(tiny_info, image_config=config)).state_dict().keys()
        )
