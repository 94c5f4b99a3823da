"""The settings of a training run."""

import math
from dataclasses import dataclass, field

from aigid.errors import UsageError
from aigid.training.image_changes import Augmentation
from aigid.training.losses import LossConfig

SCHEDULES = ("constant", "one_cycle")
TUNINGS = ("full", "frozen", "lora")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of a run; the defaults are the paper's. `schedule` is "constant" or "one_cycle" (cosine).

    `encoders` says what of the two encoders is trained: all ("full"), nothing ("frozen"), or low-rank additions to their
    linear layers ("lora", of rank `lora_rank`; arXiv 2106.09685). A batch goes through in `gradient_accumulation_steps` parts, which changes
    what memory it needs and nothing else. With `unify` all pictures, those of validation too, are encoded alike first.
    """

    epochs: int = 8
    batch_rows: int = 256
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    schedule: str = "constant"
    oversample_real: int = 1
    seed: int = 0
    augmentation: Augmentation = Augmentation()
    unify: bool = False
    loss: LossConfig = field(default_factory=LossConfig)
    encoders: str = "full"
    lora_rank: int = 16
    precision: str = "fp32"
    gradient_accumulation_steps: int = 1

    def __post_init__(self) -> None:
        counts = min(
            self.epochs,
            self.batch_rows,
            self.oversample_real,
            self.lora_rank,
            self.gradient_accumulation_steps,
        )
        if (
            counts < 1
            or not 0 < self.learning_rate < math.inf
            or not 0 <= self.weight_decay < math.inf
        ):
            raise UsageError(
                f"epochs, batch size, repeats, rank and parts must be 1 or more, the learning rate positive: got {self}"
            )
        for name, known in (
            ("schedule", SCHEDULES),
            ("encoders", TUNINGS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} must be one of {', '.join(known)}: got {getattr(self, name)}"
                )
        if self.loss.consistency and self.augmentation.is_off:
            raise UsageError(
                "--consistency compares a picture with itself changed: say how with --augment"
            )
