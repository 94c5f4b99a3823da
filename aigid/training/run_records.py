"""The records of a training run: its epochs, and the settings and data that it must keep."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aigid.contract import ImageSpec
from aigid.training.config import TrainingConfig
from aigid.training.metrics import Metrics
from aigid.training.row_decoder import Input


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: an item of history.json.

    `loss` is the mean over the training batches. The other metrics are of the validation rows.
    `score` is what the best epoch has most of: `binary_f1_a` or `macro_f1_a` plus `macro_f1_b`, as
    the run's `select_by` says. A metric is None where validation lacks the rows that define it, as
    `macro_f1_b` where no AI-generated row names its generator.
    """

    epoch: int
    loss: float
    validation_loss: float
    binary_f1_a: float | None
    macro_f1_a: float | None
    macro_f1_b: float | None
    auroc_a: float | None
    score: float
    seconds: float
    processes: int

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in history.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "EpochRecord":
        """Return the record that `to_json` wrote; raises TypeError for other keys."""
        return cls(**values)

    def validation_metrics(self) -> dict[str, float]:
        """Return the metrics of the validation rows, without those that are None."""
        found = {
            "loss": self.validation_loss,
            "binary_f1_a": self.binary_f1_a,
            "macro_f1_a": self.macro_f1_a,
            "macro_f1_b": self.macro_f1_b,
            "auroc_a": self.auroc_a,
        }
        return {name: value for name, value in found.items() if value is not None}

    def summary(self) -> str:
        """Return the line that a run prints after the epoch."""
        binary_a, a, b = (
            "-" if value is None else f"{value:.4f}"
            for value in (self.binary_f1_a, self.macro_f1_a, self.macro_f1_b)
        )
        return (
            f"epoch {self.epoch}: loss {self.loss:.4f}, "
            f"validation loss {self.validation_loss:.4f}, binary F1 A {binary_a}, "
            f"macro-F1 A {a}, B {b}, {self.seconds:.0f} s"
        )


@dataclass(frozen=True)
class RunIdentity:
    """The settings and data of a run: a run is resumed only with the same ones.

    `train` and `validation` are the hashes of the files' footers, not their paths: data may be
    moved. `labels` are the model's, and the two columns those that were chosen to read labels from.
    `text_config` and `image_config` are configs of transformers, and `pretrained` holds the hashes
    of the weights that text and image encoder came with (None for random ones).
    """

    config: TrainingConfig
    text_config: Mapping[str, Any]
    image_config: Mapping[str, Any]
    pretrained: tuple[str | None, str | None]
    fusion_hidden: int
    image: ImageSpec
    without: Input | None
    labels: Sequence[str]
    label_column: str | None
    generator_column: str | None
    train: Sequence[str]
    validation: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in state.json."""
        return {
            "config": self.config.to_json(),
            "text_config": dict(self.text_config),
            "image_config": dict(self.image_config),
            "pretrained": list(self.pretrained),
            "fusion_hidden": self.fusion_hidden,
            "image": _image_to_json(self.image),
            "without": self.without,
            "labels": list(self.labels),
            "label_column": self.label_column,
            "generator_column": self.generator_column,
            "train": list(self.train),
            "validation": list(self.validation),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunIdentity":
        """Return the record that `to_json` wrote.

        Settings that an earlier version did not write have their defaults. Raises KeyError,
        TypeError, ValueError or AigidError for anything else.
        """
        without = values.get("without")
        return cls(
            config=TrainingConfig.from_json(values["config"]),
            text_config=dict(values["text_config"]),
            image_config=dict(values["image_config"]),
            pretrained=(values["pretrained"][0], values["pretrained"][1]),
            fusion_hidden=int(values["fusion_hidden"]),
            image=ImageSpec(**values["image"]),
            without=None if without is None else Input(without),
            labels=tuple(values["labels"]),
            label_column=values["label_column"],
            generator_column=values["generator_column"],
            train=tuple(values["train"]),
            validation=tuple(values["validation"]),
        )

    def differences(self, other: "RunIdentity") -> list[str]:
        """Return the parameters that differ from those of `other`, in backticks.

        Both values stand with them where they are short.
        """
        theirs = other._parameters()
        return [
            f"`{name}`{_change(theirs[name], value)}"
            for name, value in self._parameters().items()
            if value != theirs[name]
        ]

    def _parameters(self) -> dict[str, Any]:
        """Return all settings by the names of the parameters that set them."""
        values = self.to_json()
        config, image = values.pop("config"), values.pop("image")
        text_config, image_config = values.pop("text_config"), values.pop("image_config")
        text_weights, image_weights = values.pop("pretrained")
        pooling = image_config.pop("image_pooling", None)
        layer = None if pooling is None else image_config.pop("num_hidden_layers") - 1
        return {
            **config.pop("loss"),
            **config,
            "resizing": image.pop("resizing"),
            "image_layer": layer,
            "image_pooling": pooling,
            "text_encoder": (text_config, text_weights),
            "image_encoder": (image_config, image_weights, image),
            **values,
        }


def _image_to_json(image: ImageSpec) -> dict[str, Any]:
    return {**dataclasses.asdict(image), "mean": list(image.mean), "std": list(image.std)}


def _change(theirs: Any, ours: Any) -> str:
    if isinstance(theirs, dict | list | tuple) or isinstance(ours, dict | list | tuple):
        return ""
    return f" (was {json.dumps(theirs)}, is {json.dumps(ours)})"


@dataclass(frozen=True)
class TrainingState:
    """The state of a run after an epoch, without its weights: the content of state.json."""

    identity: RunIdentity
    history: tuple[EpochRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in state.json."""
        return {
            "identity": self.identity.to_json(),
            "history": [epoch.to_json() for epoch in self.history],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TrainingState":
        """Return the record that `to_json` wrote; raises what `RunIdentity.from_json` raises."""
        return cls(
            RunIdentity.from_json(values["identity"]),
            tuple(EpochRecord.from_json(epoch) for epoch in values["history"]),
        )


@dataclass(frozen=True)
class RunRecord:
    """The run that made a checkpoint: its settings, and the record of the checkpoint's epoch.

    `data` has short names of the manifests, by "train" and "validation". `metrics` are those of
    the validation rows.
    """

    config: TrainingConfig
    data: Mapping[str, str]
    validation: EpochRecord
    metrics: Metrics

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in a checkpoint's config.json."""
        return {
            "config": self.config.to_json(),
            "data": dict(self.data),
            "validation": self.validation.to_json(),
            "metrics": self.metrics.to_json(),
        }
