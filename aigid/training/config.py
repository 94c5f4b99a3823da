"""The settings of a training run."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aigid.errors import UsageError
from aigid.training.image_changes import Augmentation
from aigid.training.losses import LossConfig

SCHEDULES = ("constant", "linear", "one_cycle")
SELECTIONS = ("binary_f1_a", "macro_f1")
TUNINGS = ("full", "frozen", "lora")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of a training run. The defaults are the paper's.

    `schedule` is "constant", "linear" (to zero) or "one_cycle" (a cosine to zero). Before they
    fall, the last two rise linearly over `warmup_fraction` of all steps: by default over 0.15 in
    "one_cycle", not at all in "linear". Weights decay by `weight_decay`, but not biases and norms.
    Gradients are clipped to the norm `max_gradient_norm`.

    `select_by` says which epoch is the best: "binary_f1_a" takes the highest F1 of the class
    "AI-generated" in task A, which a constant answer also reaches where most rows are AI-generated
    (0.909 with five of six); "macro_f1" takes the highest macro-F1 of task A plus that of task B.
    Of equal epochs the first is the best.

    `encoders` is "full", "frozen", or "lora": low-rank additions of rank `lora_rank` to the linear
    layers (arXiv 2106.09685). A batch is processed in `gradient_accumulation_steps` micro-batches,
    which changes the memory it needs, not the result. With `unify`, all images are first encoded
    alike, also those of validation. Every real row is repeated `oversample_real` times in an epoch.

    Raises UsageError for a setting out of its range.
    """

    epochs: int = 8
    batch_rows: int = 256
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    schedule: str = "linear"
    oversample_real: int = 1
    seed: int = 0
    augmentation: Augmentation = Augmentation()
    unify: bool = False
    loss: LossConfig = field(default_factory=LossConfig)
    encoders: str = "full"
    lora_rank: int = 16
    precision: str = "fp32"
    gradient_accumulation_steps: int = 1
    max_gradient_norm: float = 1.0
    warmup_fraction: float | None = None
    select_by: str = "binary_f1_a"

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_numbers()
        self._check_choices()
        if self.loss.consistency and self.augmentation.is_off:
            raise UsageError(
                "`consistency` compares an image with its changed copy: set `augmentation`"
            )

    def _check_counts(self) -> None:
        for name in (
            "epochs",
            "batch_rows",
            "oversample_real",
            "lora_rank",
            "gradient_accumulation_steps",
        ):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"`{name}` must be 1 or more: got {value}")
        if self.seed < 0:
            raise UsageError(f"`seed` must be 0 or more: got {self.seed}")

    def _check_numbers(self) -> None:
        for name in ("learning_rate", "max_gradient_norm"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"`{name}` must be a number above 0: got {value:g}")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"`weight_decay` must be 0 or more: got {self.weight_decay:g}")
        self._check_warmup()

    def _check_warmup(self) -> None:
        if self.warmup_fraction is None:
            return
        if not 0 <= self.warmup_fraction <= 1:
            raise UsageError(f"`warmup_fraction` must be from 0 to 1: got {self.warmup_fraction:g}")
        if self.schedule == "constant":
            raise UsageError(
                "`warmup_fraction`: a constant learning rate has no warm-up: leave it out, or set "
                "`schedule` to linear or one_cycle"
            )

    def _check_choices(self) -> None:
        for name, choices in (
            ("schedule", SCHEDULES),
            ("select_by", SELECTIONS),
            ("encoders", TUNINGS),
            ("precision", PRECISIONS),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"`{name}` must be one of {', '.join(choices)}: got {value!r}")

    @property
    def has_constant_features(self) -> bool:
        """Whether a row's features are the same in all epochs: nothing in them changes."""
        changes = self.augmentation
        return self.encoders == "frozen" and changes.is_off and not changes.flip

    def to_json(self) -> dict[str, Any]:
        """Return the settings as they stand in state.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingConfig":
        """Return the settings that `to_json` wrote.

        A setting that is missing, since an earlier version did not have it, has its default.
        Raises TypeError for an unknown setting and UsageError for one out of its range.
        """
        nested = {
            "augmentation": Augmentation(**values.get("augmentation", {})),
            "loss": LossConfig(**values.get("loss", {})),
        }
        return cls(**{**values, **nested})
