"""A training run: epochs, validation, the best checkpoint, and a state to resume from."""

import dataclasses
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from aigid.errors import TrainingError, UsageError
from aigid.folders import replace_folder, restore_folder
from aigid.training.calibration import fit_temperatures, fit_thresholds, probabilities
from aigid.training.checkpoint import CheckpointInfo, load_weights, save_checkpoint
from aigid.training.datasets import LabelledManifest, StreamOrder
from aigid.training.fusion_model import FusionModel
from aigid.training.inference import LabelledLogits, apply_model, score_manifest
from aigid.training.losses import multi_task_loss
from aigid.training.metrics import Labelled, all_metrics
from aigid.training.picture_changes import Augmentation

BEST = "best"
LAST = "last"
HISTORY_FILE = "history.json"
_WEIGHTS, _MOMENTS, _STATE = "model.safetensors", "adamw.safetensors", "state.json"
_WARM_UP = 0.15


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of a run; the defaults are the paper's. `schedule` is "constant" or "one_cycle" (cosine).

    With `unify` all pictures, those of validation too, are encoded alike before anything else.
    """

    epochs: int = 8
    batch_rows: int = 256
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    schedule: str = "constant"
    real_repeat: int = 1
    seed: int = 0
    augmentation: Augmentation = Augmentation()
    unify: bool = False

    def __post_init__(self) -> None:
        counts = min(self.epochs, self.batch_rows, self.real_repeat)
        if counts < 1 or not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            raise UsageError(f"epochs, batch size and repeats must be 1 or more, the learning rate positive: got {self}")
        if self.schedule not in ("constant", "one_cycle"):
            raise UsageError(f"schedule must be constant or one_cycle: got {self.schedule}")


@dataclass(frozen=True)
class TrainingData:
    """The two manifests of a run."""

    train: LabelledManifest
    validation: LabelledManifest


class TrainingProgress(Protocol):
    """What is told of a run while it goes."""

    def start(self, total_rows: int, done_rows: int) -> None:
        """A pass over rows begins."""
        ...

    def advance(self, rows: int, errors: int) -> None:
        """More rows are done."""
        ...


class Trainer:
    """One run in one folder: `best/` is a checkpoint, `last/` the state to resume from, history.json the figures."""

    def __init__(
        self, model: FusionModel, info: CheckpointInfo, tokenizer_file: Path, config: TrainingConfig, folder: Path
    ) -> None:
        """Prepare a run of `model` into `folder`."""
        self.model, self.info, self.config, self.folder = model, info, config, folder
        self._tokenizer_file = tokenizer_file
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self._history: list[dict[str, Any]] = []

    def run(
        self, data: TrainingData, progress: TrainingProgress, notify: Callable[[str], None], *, resume: bool = False
    ) -> Path:
        """Train to the last epoch and return the best checkpoint's folder (by macro-F1 of A plus that of B).

        Raises UsageError where the folder holds a run and `resume` is not set, or one of other settings or data;
        TrainingError where the loss is no number.
        """
        self._claim_folder(data, resume)
        for epoch in range(len(self._history), self.config.epochs):
            started = time.perf_counter()
            loss = self._train_epoch(data.train, epoch, progress)
            scored = score_manifest(self.model, data.validation, self.config.batch_rows)
            figures = _figures(scored)
            self._history.append(
                {"epoch": epoch + 1, "loss": loss, **figures, "seconds": round(time.perf_counter() - started, 1)}
            )
            notify(_epoch_line(self._history[-1]))
            if figures["score"] >= max(item["score"] for item in self._history):
                self._save_best(scored)
            self._save_last(data)
        return self.folder / BEST

    def _train_epoch(self, train: LabelledManifest, epoch: int, progress: TrainingProgress) -> float:
        self.model.train()
        torch.manual_seed(self.config.seed * 100_003 + epoch)
        rows = train.rows_drawn(self.config.real_repeat)
        steps_an_epoch = math.ceil(rows / self.config.batch_rows)
        progress.start(rows, 0)
        total, steps = 0.0, 0
        order = StreamOrder(self.config.seed, epoch, self.config.real_repeat, self.config.augmentation)
        for batch in train.batches(self.config.batch_rows, order):
            loss = multi_task_loss(
                apply_model(self.model, batch), torch.from_numpy(batch.label_a), torch.from_numpy(batch.label_b)
            )
            if not math.isfinite(loss.item()):
                where = f"epoch {epoch + 1}, step {steps + 1}"
                raise TrainingError(
                    f"{where}: the loss is {loss.item()}; {self.folder / BEST} keeps the last good one: lower the rate"
                )
            for group in self._optimizer.param_groups:
                # Of the epoch and the step in it alone, so that a resumed run goes on where it was.
                group["lr"] = learning_rate_at(self.config, epoch * steps_an_epoch + steps, self.config.epochs * steps_an_epoch)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
            total, steps = total + loss.item(), steps + 1
            progress.advance(len(batch.label_a) + batch.undecodable, batch.undecodable)
        return total / steps

    def _save_best(self, scored: LabelledLogits) -> None:
        temperatures = fit_temperatures(scored.logits, scored.label_a, scored.label_b)
        p_ai, _ = probabilities(scored.logits, temperatures)
        facts = {"config": dataclasses.asdict(self.config), "validation": self._history[-1]}
        info = dataclasses.replace(
            self.info, temperatures=temperatures, thresholds=fit_thresholds(scored.label_a.numpy(), p_ai), training=facts
        )
        save_checkpoint(self.model, info, self._tokenizer_file, self.folder / BEST)

    def _claim_folder(self, data: TrainingData, resume: bool) -> None:
        restore_folder(self.folder / LAST)
        state_file = self.folder / LAST / _STATE
        if not state_file.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            return
        if not resume:
            raise UsageError(f"{self.folder}: holds a training run; give --resume to go on with it, or another folder")
        state = json.loads(state_file.read_text(encoding="utf-8"))
        now = json.loads(json.dumps(self._identity(data)))
        # What an earlier version did not write down is taken to be the same.
        differing = sorted(key for key in now if state["identity"].get(key, now[key]) != now[key])
        if differing:
            said = ", ".join(differing)
            raise UsageError(f"{self.folder}: holds a run with other settings or data ({said}); give another folder")
        self._history = state["history"]
        load_weights(self.model, self.folder / LAST / _WEIGHTS)
        self._load_moments()

    def _identity(self, data: TrainingData) -> dict[str, Any]:
        return {
            "config": dataclasses.asdict(self.config),
            "text_config": self.info.text_config,
            "image_config": self.info.image_config,
            "fusion_hidden": self.info.fusion_hidden,
            # Of the files' footers, not their paths: data may be moved.
            "train": [file.footer_sha256 for file in data.train.manifest.files],
            "validation": [file.footer_sha256 for file in data.validation.manifest.files],
        }

    def _save_last(self, data: TrainingData) -> None:
        temporary = Path(tempfile.mkdtemp(prefix=".last.", dir=self.folder))
        try:
            save_file({key: value.contiguous() for key, value in self.model.state_dict().items()}, temporary / _WEIGHTS)
            names = {id(value): name for name, value in self.model.named_parameters()}
            moments = {
                f"{names[id(parameter)]}|{key}": value.clone().contiguous()
                for parameter, state in self._optimizer.state.items()
                for key, value in state.items()
            }
            save_file(moments, temporary / _MOMENTS)
            state = {"identity": self._identity(data), "history": self._history}
            (temporary / _STATE).write_text(json.dumps(state), encoding="utf-8")
            (self.folder / HISTORY_FILE).write_text(json.dumps(self._history, indent=2) + "\n", encoding="utf-8")
            replace_folder(temporary, self.folder / LAST)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _load_moments(self) -> None:
        parameters = dict(self.model.named_parameters())
        for key, value in load_file(self.folder / LAST / _MOMENTS).items():
            name, _, moment = key.rpartition("|")
            self._optimizer.state[parameters[name]][moment] = value


def learning_rate_at(config: TrainingConfig, step: int, steps: int) -> float:
    """The learning rate of step number `step` of `steps`."""
    warm_up = max(1, int(_WARM_UP * steps))
    if config.schedule == "constant":
        factor = 1.0
    elif step < warm_up:
        factor = (step + 1) / warm_up
    else:
        factor = 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))
    return config.learning_rate * factor


def _figures(scored: LabelledLogits) -> dict[str, float]:
    p_ai, p_source = probabilities(scored.logits, fit_temperatures(scored.logits, scored.label_a, scored.label_b))
    rows = Labelled(scored.label_a.numpy(), scored.label_b.numpy(), p_ai.numpy(), p_source.numpy())
    metrics = all_metrics(rows)
    a, b = metrics["a"]["macro_f1"], metrics["b"]["macro_f1"]
    loss = float(multi_task_loss(scored.logits, scored.label_a, scored.label_b))
    return {"validation_loss": loss, "macro_f1_a": a, "macro_f1_b": b, "auroc_a": metrics["a"]["auroc"], "score": a + b}


def _epoch_line(item: dict[str, Any]) -> str:
    return (
        f"epoch {item['epoch']}: loss {item['loss']:.4f}, validation loss {item['validation_loss']:.4f}, "
        f"macro-F1 A {item['macro_f1_a']:.4f}, B {item['macro_f1_b']:.4f}, {item['seconds']:.0f} s"
    )
