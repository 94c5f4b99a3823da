"""Optimizer steps held against those of transformers' Trainer, and the learning rates."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.manifests import SIDE
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainingArguments, get_scheduler

from aigid.contract import ImageSpec
from aigid.prompts import TokenBatch
from aigid.training import adamw
from aigid.training.adamw import decayed_parameters, learning_rate_at, new_adamw
from aigid.training.checkpoint import CheckpointInfo, new_model
from aigid.training.config import TrainingConfig
from aigid.training.datasets import ProcessRank, StreamOrder
from aigid.training.encoders import (
    IMAGE_ENCODERS,
    image_encoder_from_config,
    text_encoder_from_config,
)
from aigid.training.fusion_model import FusionModel
from aigid.training.labels import LabelCounts
from aigid.training.losses import LossConfig, batch_totals, equal_weights
from aigid.training.optimization import Optimization
from aigid.training.training_batch import TrainingBatch
from aigid.training.training_step import TrainingStep
from aigid.training.tuning import prepare_encoders

BATCH_ROWS, EPOCHS, STEPS_PER_EPOCH = 8, 2, 10
ROWS, STEPS = BATCH_ROWS * STEPS_PER_EPOCH, EPOCHS * STEPS_PER_EPOCH
TOLERANCE = 1e-5
PAPER = TrainingConfig(epochs=EPOCHS, batch_rows=BATCH_ROWS, learning_rate=1e-3)


class Rows(Dataset[dict[str, Tensor]]):
    """Random rows, by the names of TrainingStep's arguments; five of six are AI-generated."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        label_b = rng.integers(0, 6, ROWS)
        self.columns = {
            "images": rng.integers(0, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8),
            "input_ids": rng.integers(1000, 30000, (ROWS, 8), dtype=np.int32),
            "attention_mask": np.ones((ROWS, 8), np.int32),
            "label_a": (label_b > 0).astype(np.int64),
            "label_b": label_b,
        }

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: torch.as_tensor(column[row]) for name, column in self.columns.items()}

    def batches(
        self, batch_rows: int, order: StreamOrder | None, process: ProcessRank
    ) -> Iterator[TrainingBatch]:
        """Yield the batches of an epoch in the rows' own order, as a LabelledManifest does."""
        for start in range(0, ROWS, batch_rows):
            images, ids, mask, label_a, label_b = (
                column[start : start + batch_rows] for column in self.columns.values()
            )
            numbers = np.arange(start, start + len(label_a))
            yield TrainingBatch(images, TokenBatch(ids, mask), label_a, label_b, numbers, 0)


class InOrder(Trainer):
    """transformers' Trainer with our loss, on the rows in their own order."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **options: Any
    ) -> Tensor:
        totals = batch_totals(inputs["label_a"], inputs["label_b"])
        loss: Tensor = model(**inputs, totals=totals)
        return loss

    def _get_train_sampler(self, *args: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


@pytest.fixture(scope="module")
def steady_info(tiny_info: CheckpointInfo) -> CheckpointInfo:
    """Return the tiny model without dropout: its steps depend on the rows alone."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return replace(tiny_info, text_config={**tiny_info.text_config, **still})


@pytest.fixture(scope="module")
def expected(
    steady_info: CheckpointInfo, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensor]:
    """Return the weights after transformers' Trainer took all steps with the authors' arguments."""
    step = TrainingStep(first_model(steady_info), LossConfig(), equal_weights(6))
    arguments = TrainingArguments(
        str(tmp_path_factory.mktemp("trainer")),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH_ROWS,
        learning_rate=PAPER.learning_rate,
        weight_decay=0.01,
        # The default of their time. Today's fused kernel rounds otherwise, and AdamW scales that up
        # in the keys' bias, whose gradient is nothing but rounding.
        optim="adamw_torch",
        use_cpu=True,
        remove_unused_columns=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = InOrder(step, arguments, train_dataset=Rows())
    assert trainer.train().global_step == STEPS
    return {name: value.clone() for name, value in step.model.state_dict().items()}


def first_model(info: CheckpointInfo) -> FusionModel:
    """Return the model with the same first weights on each call."""
    torch.manual_seed(3)
    return new_model(info)


def largest_difference(
    info: CheckpointInfo, config: TrainingConfig, expected: Mapping[str, Tensor], progress: object
) -> float:
    """Return the largest difference of a weight after our steps."""
    model = first_model(info)
    classes = np.bincount(Rows().columns["label_b"])
    optimization = Optimization(model, config, LabelCounts(tuple(classes.tolist())))
    for epoch in range(EPOCHS):
        optimization.train_epoch(Rows(), epoch, progress)
    found = model.state_dict()
    assert found.keys() == expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in found)


def test_our_steps_are_those_of_transformers_trainer(
    steady_info: CheckpointInfo, expected: dict[str, Tensor], progress: object
) -> None:
    started = first_model(steady_info).state_dict()
    assert float((started["fusion.weight"] - expected["fusion.weight"]).abs().max()) > 5e-3
    assert largest_difference(steady_info, PAPER, expected, progress) <= TOLERANCE


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_steps_on_another_schedule_are_not(
    steady_info: CheckpointInfo, expected: dict[str, Tensor], progress: object, schedule: str
) -> None:
    config = replace(PAPER, schedule=schedule)
    assert largest_difference(steady_info, config, expected, progress) > 100 * TOLERANCE


def test_steps_with_decay_on_norms_and_biases_are_not(
    steady_info: CheckpointInfo,
    expected: dict[str, Tensor],
    progress: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def every_parameter(model: nn.Module) -> set[str]:
        return {name for name, _ in model.named_parameters()}

    monkeypatch.setattr(adamw, "decayed_parameters", every_parameter)
    assert largest_difference(steady_info, PAPER, expected, progress) > 5 * TOLERANCE


WIDTH = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
IMAGE = {"image_size": SIDE, "patch_size": 8, **WIDTH}


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize(
    ("text", "image"),
    [
        *(("bert", image) for image in IMAGE_ENCODERS),
        ("roberta", "dinov2"),
        ("modernbert", "dinov2"),
    ],
)
def test_what_decays_is_what_decays_in_transformers_trainer(
    text: str, image: str, tuning: str
) -> None:
    model = FusionModel(
        text_encoder_from_config(
            {"model_type": text, "vocab_size": 50, "pad_token_id": 0, **WIDTH}
        ),
        image_encoder_from_config({"model_type": image, **IMAGE}),
        ImageSpec(size=SIDE),
    )
    prepare_encoders(model, TrainingConfig(encoders=tuning, lora_rank=2))
    # The method is a function of the model alone. It lists parameters that are None too.
    theirs = set(Trainer.get_decay_parameter_names(None, model))
    assert decayed_parameters(model) == theirs & {name for name, _ in model.named_parameters()}


def test_the_scales_of_dinov2_decay_and_its_norms_and_biases_do_not() -> None:
    decayed = decayed_parameters(image_encoder_from_config({"model_type": "dinov2", **IMAGE}))
    assert len([name for name in decayed if "layer_scale" in name]) == 2
    assert not [name for name in decayed if "norm" in name or "bias" in name]


def test_the_optimizer_is_adamw_with_these_settings(tiny_model: FusionModel) -> None:
    tiny_model.head_a.bias.requires_grad_(False)
    optimizer = new_adamw(tiny_model, TrainingConfig(learning_rate=0.25, weight_decay=0.125))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [
        (group["lr"], group["weight_decay"], group["betas"], group["eps"])
        for group in optimizer.param_groups
    ] == [(0.25, 0.125, (0.9, 0.999), 1e-8), (0.25, 0.0, (0.9, 0.999), 1e-8)]
    trained = [value for group in optimizer.param_groups for value in group["params"]]
    assert len(trained) == len(list(tiny_model.parameters())) - 1


def rates(schedule: str, steps: int, warmup_fraction: float | None = None) -> list[float]:
    """Return the learning rate of each step."""
    config = TrainingConfig(schedule=schedule, learning_rate=0.1, warmup_fraction=warmup_fraction)
    return [learning_rate_at(config, step, steps) for step in range(steps)]


def test_the_constant_schedule_is_constant() -> None:
    assert rates("constant", 7) == [0.1] * 7


@pytest.mark.parametrize("warmup_fraction", [None, 0.0, 0.1, 0.25, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_the_linear_schedule_is_that_of_transformers(
    steps: int, warmup_fraction: float | None
) -> None:
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    # As transformers' Trainer rounds a fraction of the steps.
    warmup_steps = math.ceil((warmup_fraction or 0.0) * steps)
    scheduler = get_scheduler("linear", theirs, warmup_steps, steps)
    expected: list[float] = []
    for _ in range(steps):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        scheduler.step()
    assert rates("linear", steps, warmup_fraction) == pytest.approx(expected)


def test_the_linear_schedule_begins_at_the_full_rate_and_never_stands_still() -> None:
    assert rates("linear", 4) == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_one_cycle_rises_for_15_percent_of_the_steps_then_falls_as_a_cosine() -> None:
    found = rates("one_cycle", 100)
    np.testing.assert_allclose(found[:15], [0.1 * (step + 1) / 15 for step in range(15)])
    np.testing.assert_allclose(
        found[15:], [0.05 * (1 + math.cos(math.pi * step / 85)) for step in range(85)]
    )
    assert found[-1] < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 6, 7])
def test_one_cycle_of_few_steps_never_stands_still(steps: int) -> None:
    assert rates("one_cycle", steps)[0] == 0.1
    assert min(rates("one_cycle", steps)) > 0


def test_the_warm_up_is_a_fraction_of_all_steps() -> None:
    assert rates("one_cycle", 10, 0.5)[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates("one_cycle", 10, 1.0) == pytest.approx([0.01 * step for step in range(1, 11)])
    assert rates("one_cycle", 10, 0.0)[0] == 0.1
