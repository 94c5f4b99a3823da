"""Train, evaluate and improve a model: data, network, loss, training run, metrics.

Needs the extra `train`. The names below are loaded when they are first used: auditing a data set
needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aigid.extras import missing_extra

if TYPE_CHECKING:
    from aigid.training.ablation import AblationConfig, run_ablation
    from aigid.training.checkpoint import (
        Checkpoint,
        CheckpointInfo,
        load_checkpoint,
        save_checkpoint,
    )
    from aigid.training.config import TrainingConfig
    from aigid.training.evaluation import (
        Evaluation,
        EvaluationConfig,
        evaluate_checkpoint,
        evaluate_repository,
    )
    from aigid.training.image_changes import Augmentation
    from aigid.training.image_pooling import ImagePooling
    from aigid.training.labels import LabelChoice
    from aigid.training.losses import LossConfig
    from aigid.training.pseudo_labels import write_pseudo_labels
    from aigid.training.pseudo_selection import SelectionConfig
    from aigid.training.run import RunConfig, train
    from aigid.training.run_records import EpochRecord, TrainingState

__all__ = [
    "AblationConfig",
    "Augmentation",
    "Checkpoint",
    "CheckpointInfo",
    "EpochRecord",
    "Evaluation",
    "EvaluationConfig",
    "ImagePooling",
    "LabelChoice",
    "LossConfig",
    "RunConfig",
    "SelectionConfig",
    "TrainingConfig",
    "TrainingState",
    "evaluate_checkpoint",
    "evaluate_repository",
    "load_checkpoint",
    "run_ablation",
    "save_checkpoint",
    "train",
    "write_pseudo_labels",
]

_MODULES = {
    "AblationConfig": "ablation",
    "Augmentation": "image_changes",
    "Checkpoint": "checkpoint",
    "CheckpointInfo": "checkpoint",
    "EpochRecord": "run_records",
    "Evaluation": "evaluation",
    "EvaluationConfig": "evaluation",
    "ImagePooling": "image_pooling",
    "LabelChoice": "labels",
    "LossConfig": "losses",
    "RunConfig": "run",
    "SelectionConfig": "pseudo_selection",
    "TrainingConfig": "config",
    "TrainingState": "run_records",
    "evaluate_checkpoint": "evaluation",
    "evaluate_repository": "evaluation",
    "load_checkpoint": "checkpoint",
    "run_ablation": "ablation",
    "save_checkpoint": "checkpoint",
    "train": "run",
    "write_pseudo_labels": "pseudo_labels",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module; raises MissingExtraError where a package is not installed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        raise missing_extra("training", error, "train") from error
