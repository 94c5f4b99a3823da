import math

import pytest

from aigid.errors import UsageError
from aigid.training.config import TrainingConfig
from aigid.training.image_changes import Augmentation
from aigid.training.losses import LossConfig


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"epochs": 0}, "`epochs` must be 1 or more: got 0"),
        ({"batch_rows": 0}, "`batch_rows` must be 1 or more: got 0"),
        ({"oversample_real": 0}, "`oversample_real` must be 1 or more: got 0"),
        ({"lora_rank": 0}, "`lora_rank` must be 1 or more: got 0"),
        (
            {"gradient_accumulation_steps": 0},
            "`gradient_accumulation_steps` must be 1 or more: got 0",
        ),
        ({"seed": -1}, "`seed` must be 0 or more: got -1"),
        ({"learning_rate": 0.0}, "`learning_rate` must be a number above 0: got 0"),
        ({"learning_rate": math.nan}, "`learning_rate` must be a number above 0: got nan"),
        ({"learning_rate": math.inf}, "`learning_rate` must be a number above 0: got inf"),
        ({"max_gradient_norm": 0.0}, "`max_gradient_norm` must be a number above 0: got 0"),
        ({"max_gradient_norm": math.inf}, "`max_gradient_norm` must be a number above 0: got inf"),
        ({"weight_decay": -0.1}, "`weight_decay` must be 0 or more: got -0.1"),
        ({"warmup_fraction": -0.1}, "`warmup_fraction` must be from 0 to 1: got -0.1"),
        ({"warmup_fraction": 1.5}, "`warmup_fraction` must be from 0 to 1: got 1.5"),
        (
            {"warmup_fraction": 0.1, "schedule": "constant"},
            "`warmup_fraction`: a constant learning rate has no warm-up: leave it out, or set "
            "`schedule` to linear or one_cycle",
        ),
        (
            {"schedule": "cosine"},
            "`schedule` must be one of constant, linear, one_cycle: got 'cosine'",
        ),
        (
            {"select_by": "accuracy"},
            "`select_by` must be one of binary_f1_a, macro_f1: got 'accuracy'",
        ),
        ({"encoders": "half"}, "`encoders` must be one of full, frozen, lora: got 'half'"),
        ({"precision": "int8"}, "`precision` must be one of fp32, bf16, fp16: got 'int8'"),
        (
            {"loss": LossConfig(consistency=1.0)},
            "`consistency` compares an image with its changed copy: set `augmentation`",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(bad: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        TrainingConfig(**bad)
    assert str(refused.value) == message


def test_defaults_are_the_paper_s() -> None:
    config = TrainingConfig()
    assert (config.epochs, config.batch_rows, config.oversample_real) == (8, 256, 1)
    assert (config.learning_rate, config.weight_decay, config.schedule) == (2e-5, 0.01, "linear")
    assert (config.warmup_fraction, config.max_gradient_norm) == (None, 1.0)
    assert config.select_by == "binary_f1_a"
    assert (config.loss, config.augmentation, config.unify) == (LossConfig(), Augmentation(), False)
    assert config.augmentation.flip == 0


def test_a_config_comes_back_from_json() -> None:
    config = TrainingConfig(
        epochs=3,
        augmentation=Augmentation(blur=0.25, flip=0.5),
        loss=LossConfig(class_balanced=True, consistency=0.5),
        warmup_fraction=0.3,
        select_by="macro_f1",
    )
    assert TrainingConfig.from_json(config.to_json()) == config


def test_a_setting_that_an_earlier_version_did_not_write_has_its_default() -> None:
    values = TrainingConfig(max_gradient_norm=5.0).to_json()
    del values["max_gradient_norm"]
    assert TrainingConfig.from_json(values) == TrainingConfig()
    with pytest.raises(TypeError, match="momentum"):
        TrainingConfig.from_json({"momentum": 0.9})
