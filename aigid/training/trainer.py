"""A training run: epochs, validation, the best checkpoint, and a state to resume from."""

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from aigid.errors import TrainingError, UsageError
from aigid.storage import replace_folder, restore_folder
from aigid.training.calibration import fit_temperatures, fit_thresholds, probabilities
from aigid.training.checkpoint import CheckpointInfo, load_weights, save_checkpoint
from aigid.training.config import TrainingConfig
from aigid.training.datasets import LabelledManifest
from aigid.training.fusion_model import FusionModel
from aigid.training.inference import LabelledLogits
from aigid.training.losses import multi_task_loss
from aigid.training.metrics import all_metrics
from aigid.training.optimization import Optimization, load_moments, moments
from aigid.training.training_progress import TrainingProgress
from aigid.training.tuning import merged, prepare_encoders

BEST = "best"
LAST = "last"
HISTORY_FILE = "history.json"
_WEIGHTS, _MOMENTS, _STATE = "model.safetensors", "adamw.safetensors", "state.json"


@dataclass(frozen=True)
class TrainingData:
    """The two manifests of a run."""

    train: LabelledManifest
    validation: LabelledManifest


class Trainer:
    """One run in one folder: `best/` is a checkpoint, `last/` the state to resume from, history.json the figures."""

    def __init__(
        self,
        model: FusionModel,
        info: CheckpointInfo,
        tokenizer_file: Path,
        config: TrainingConfig,
        folder: Path,
    ) -> None:
        """Prepare a run of `model` into `folder`; of the model becomes what is trained of it."""
        prepare_encoders(model, config)
        self.model, self.info, self.config, self.folder = model, info, config, folder
        self._tokenizer_file = tokenizer_file
        self._optimization: Optimization
        self._history: list[dict[str, Any]] = []

    def run(
        self,
        data: TrainingData,
        progress: TrainingProgress,
        on_message: Callable[[str], None],
        *,
        resume: bool = False,
    ) -> Path | None:
        """Train to the last epoch and return the best checkpoint's folder (by macro-F1 of A plus that of B).

        In each process of a run that `accelerate launch` started: one of them writes and tells, the others return None.

        Raises UsageError where the folder holds a run and `resume` is not set, or one of other settings or data;
        TrainingError where the loss is no number.
        """
        rows = data.train.rows_drawn(self.config.oversample_real)
        self._optimization = Optimization(self.model, self.config, rows)
        self._claim_folder(data, resume)
        self._optimization.wait()
        for epoch in range(len(self._history), self.config.epochs):
            started = time.perf_counter()
            loss = self._train_epoch(data.train, epoch, progress)
            scored = self._optimization.score(data.validation)
            figures = _figures(scored)
            self._history.append(
                {
                    "epoch": epoch + 1,
                    "loss": loss,
                    **figures,
                    "seconds": round(time.perf_counter() - started, 1),
                    "processes": self._optimization.share.of,
                }
            )
            if self._optimization.is_main:
                on_message(_epoch_line(self._history[-1]))
                if figures["score"] >= max(item["score"] for item in self._history):
                    self._save_best(scored)
                self._save_last(data)
            self._optimization.wait()
        return self.folder / BEST if self._optimization.is_main else None

    def _train_epoch(
        self, train: LabelledManifest, epoch: int, progress: TrainingProgress
    ) -> float:
        try:
            return self._optimization.train_epoch(train, epoch, progress)
        except TrainingError as error:
            if not (self.folder / BEST).is_dir():
                raise
            raise TrainingError(
                f"{error}; {self.folder / BEST} keeps the last good checkpoint"
            ) from error

    def _save_best(self, scored: LabelledLogits) -> None:
        temperatures = fit_temperatures(scored.logits, scored.label_a, scored.label_b)
        p_ai, _ = probabilities(scored.logits, temperatures)
        facts = {"config": dataclasses.asdict(self.config), "validation": self._history[-1]}
        info = dataclasses.replace(
            self.info,
            temperatures=temperatures,
            thresholds=fit_thresholds(scored.label_a.numpy(), p_ai),
            training=facts,
        )
        save_checkpoint(merged(self.model), info, self._tokenizer_file, self.folder / BEST)

    def _claim_folder(self, data: TrainingData, resume: bool) -> None:
        if self._optimization.is_main:
            restore_folder(self.folder / LAST)
        self._optimization.wait()
        state_file = self.folder / LAST / _STATE
        if not state_file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            return
        if not resume:
            raise UsageError(
                f"{self.folder}: holds a training run; give --resume to go on with it, or another folder"
            )
        state = json.loads(state_file.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(self._identity(data)))
        # What an earlier version did not write down is taken to be the same.
        differing = sorted(key for key in now if state["identity"].get(key, now[key]) != now[key])
        if differing:
            said = ", ".join(differing)
            raise UsageError(
                f"{self.folder}: holds a run with other settings or data ({said}); give another folder"
            )
        self._history = state["history"]
        load_weights(self.model, self.folder / LAST / _WEIGHTS)
        load_moments(self._optimization, load_file(self.folder / LAST / _MOMENTS))

    def _identity(self, data: TrainingData) -> dict[str, Any]:
        return {
            "config": dataclasses.asdict(self.config),
            "text_config": self.info.text_config,
            "image_config": self.info.image_config,
            "fusion_hidden": self.info.fusion_hidden,
            "image": dataclasses.asdict(self.info.image),
            "without": data.train.without,
            # Of the files' footers, not their paths: data may be moved.
            "train": [file.footer_sha256 for file in data.train.files],
            "validation": [file.footer_sha256 for file in data.validation.files],
        }

    def _save_last(self, data: TrainingData) -> None:
        temporary = Path(tempfile.mkdtemp(prefix=".last.", dir=self.folder))
        try:
            save_file(
                {key: value.contiguous() for key, value in self.model.state_dict().items()},
                temporary / _WEIGHTS,
            )
            save_file(moments(self._optimization), temporary / _MOMENTS)
            state = {"identity": self._identity(data), "history": self._history}
            (temporary / _STATE).write_text(json.dumps(state), encoding="utf-8")
            (self.folder / HISTORY_FILE).write_text(
                json.dumps(self._history, indent=2) + "\n", encoding="utf-8"
            )
            replace_folder(temporary, self.folder / LAST)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _figures(scored: LabelledLogits) -> dict[str, float]:
    metrics = all_metrics(
        scored.answers(fit_temperatures(scored.logits, scored.label_a, scored.label_b))
    )
    a, b = metrics["a"]["macro_f1"], metrics["b"]["macro_f1"]
    loss = float(multi_task_loss(scored.logits, scored.label_a, scored.label_b))
    return {
        "validation_loss": loss,
        "macro_f1_a": a,
        "macro_f1_b": b,
        "auroc_a": metrics["a"]["auroc"],
        "score": a + b,
    }


def _epoch_line(item: dict[str, Any]) -> str:
    return (
        f"epoch {item['epoch']}: loss {item['loss']:.4f}, validation loss {item['validation_loss']:.4f}, "
        f"macro-F1 A {item['macro_f1_a']:.4f}, B {item['macro_f1_b']:.4f}, {item['seconds']:.0f} s"
    )
