from dataclasses import replace

from aigid.contract import Resizing
from aigid.training.config import TrainingConfig
from aigid.training.recipes import DIFFERING, PAPER, RECOMMENDED


def test_the_paper_s_recipe_is_every_default() -> None:
    assert PAPER.training == TrainingConfig()
    assert PAPER.resizing is None


def test_the_recommended_recipe_changes_these_settings_alone() -> None:
    assert DIFFERING == ("schedule", "oversample_real", "select_by")
    assert RECOMMENDED.training == replace(
        PAPER.training, schedule="one_cycle", oversample_real=3, select_by="macro_f1"
    )
    assert RECOMMENDED.resizing is Resizing.NATIVE_CROP
