"""The named recipes: the paper's run, and what we recommend. docs/train.md gives the evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from aigid.contract import Resizing
from aigid.training.config import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """The settings of a run that a recipe names, for any encoder.

    `resizing` None means the image encoder's own.
    """

    training: TrainingConfig = field(default_factory=TrainingConfig)
    resizing: Resizing | None = None


PAPER = Recipe()
"""The run of NAU-QMUL (arXiv 2602.23863)."""

RECOMMENDED = Recipe(
    replace(PAPER.training, schedule="one_cycle", select_by="macro_f1", oversample_real=3),
    Resizing.NATIVE_CROP,
)
"""What docs/ablation.md found to be better, at the same cost for each row."""

RECIPES: Mapping[str, Recipe] = {"paper": PAPER, "recommended": RECOMMENDED}

DIFFERING = tuple(
    setting.name
    for setting in fields(TrainingConfig)
    if getattr(PAPER.training, setting.name) != getattr(RECOMMENDED.training, setting.name)
)
"""The settings of TrainingConfig in which the recipes differ."""
