"""The training loop: epochs, validation, the best checkpoint, resuming."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from aigid.contract import FittedOn, Temperatures
from aigid.errors import TrainingError, UsageError
from aigid.progress import OnMessage
from aigid.records import OTHER
from aigid.storage import make_output_folder
from aigid.training.calibration import fit_temperatures
from aigid.training.checkpoint import CheckpointInfo, save_checkpoint
from aigid.training.config import TrainingConfig
from aigid.training.datasets import LabelledManifest
from aigid.training.feature_cache import FeatureCache, feature_key
from aigid.training.features import FeatureRows, make_features
from aigid.training.fingerprints import encoders_fingerprint, pretrained_fingerprint
from aigid.training.fusion_model import FusionModel
from aigid.training.inference import TORCH, LabelledLogits
from aigid.training.losses import multi_task_loss
from aigid.training.metrics import Metrics, compute_metrics
from aigid.training.open_set import fit_open_set
from aigid.training.optimization import Optimization
from aigid.training.run_folder import RunFolder
from aigid.training.run_records import EpochRecord, RunIdentity, RunRecord, TrainingState
from aigid.training.thresholds import Decisions, fit_decisions
from aigid.training.tracking import Tracking, log_metrics, new_accelerator, tracked
from aigid.training.training_progress import TrainingProgress
from aigid.training.tuning import merge_adapters, prepare_encoders


@dataclass(frozen=True)
class TrainingData:
    """The two manifests of a run."""

    train: LabelledManifest
    validation: LabelledManifest


@dataclass(frozen=True)
class _Validation:
    """The best temperatures and thresholds after an epoch, and the metrics at 0.5."""

    temperatures: Temperatures
    decisions: Decisions
    metrics: Metrics


@dataclass(frozen=True)
class _Rows:
    """The rows of both manifests as epochs read them."""

    train: LabelledManifest | FeatureRows
    validation: LabelledManifest | FeatureRows


class Trainer:
    """A training run in a folder."""

    def __init__(
        self,
        model: FusionModel,
        info: CheckpointInfo,
        tokenizer_file: Path,
        config: TrainingConfig,
        tracking: Tracking,
    ) -> None:
        """Prepare to train `model` in the folder that `tracking` names.

        The model's encoders are frozen or wrapped with LoRA, in place.
        """
        self._pretrained = (
            pretrained_fingerprint(model.text_encoder),
            pretrained_fingerprint(model.image_encoder),
        )
        prepare_encoders(model, config)
        self.model, self.info, self.config = model, info, config
        self.folder, self._tracking = RunFolder(tracking.folder), tracking
        self._tokenizer_file = tokenizer_file
        self._optimization: Optimization
        self._identity: RunIdentity
        self._history: list[EpochRecord] = []

    def run(
        self,
        data: TrainingData,
        progress: TrainingProgress,
        on_message: OnMessage,
        *,
        resume: bool = False,
        feature_cache: Path | None = None,
    ) -> Path | None:
        """Train to the last epoch and return the folder of the best checkpoint.

        The best epoch is the first with the highest score, as the config's `select_by` says. In a
        distributed run every process calls this: only the main one writes, reports and returns a
        folder, the others return None.

        Features that are the same in all epochs are made once, and kept in the folder
        `feature_cache`, by default one in the run's folder.

        Raises UsageError where the folder holds a run and `resume` is not set, or where that run
        has other settings or data; TrainingError where training cannot go on.
        """
        counts = data.train.epoch_counts(self.config.oversample_real)
        accelerator = new_accelerator(self.config.precision, self._tracking)
        constant = self.config.has_constant_features
        self._optimization = Optimization(
            self.model, self.config, counts, accelerator, on_features=constant
        )
        self._identity = self._identify(data)
        self._open_folder(resume)
        self._optimization.wait()
        done, steps = len(self._history), self._optimization.steps_per_epoch
        if done < self.config.epochs:
            rows = self._rows_of(data, feature_cache, progress, on_message)
            with tracked(accelerator, self._tracking, self.config.to_json(), done * steps + 1):
                for epoch in range(done, self.config.epochs):
                    self._run_epoch(data, rows, epoch, progress, on_message)
                    metrics = self._history[-1].validation_metrics()
                    log_metrics(accelerator, "validation", metrics, (epoch + 1) * steps)
        return self.folder.best if self._optimization.is_main else None

    def _rows_of(
        self,
        data: TrainingData,
        feature_cache: Path | None,
        progress: TrainingProgress,
        on_message: OnMessage,
    ) -> _Rows:
        """Return what epochs read: the manifests themselves, or their features."""
        if not self.config.has_constant_features:
            return _Rows(data.train, data.validation)
        cache = FeatureCache(feature_cache or self.folder.features)
        encoders = encoders_fingerprint(self.model, self.info, self._tokenizer_file)
        if self._optimization.is_main:
            cache.prepare()
        found = []
        for manifest in (data.train, data.validation):
            key = feature_key(encoders, manifest, unify=self.config.unify)
            table = self._optimization.if_all_have(cache.load(key, on_message))
            if table is None:
                table = make_features(self.model, manifest, progress, self._optimization.process)
                if self._optimization.is_main:
                    cache.save(key, table)
            found.append(FeatureRows(manifest, table))
        return _Rows(*found)

    def _run_epoch(
        self,
        data: TrainingData,
        rows: _Rows,
        epoch: int,
        progress: TrainingProgress,
        on_message: OnMessage,
    ) -> None:
        """Train an epoch, validate, and commit its record and checkpoint."""
        started = time.perf_counter()
        loss = self._train_epoch(rows.train, epoch, progress)
        scored = self._optimization.score(rows.validation)
        found = self._validate(scored)
        validation_loss = float(multi_task_loss(scored.logits, scored.label_a, scored.label_b))
        self._history.append(
            self._epoch_record(epoch, (loss, validation_loss), found.metrics, started)
        )
        if self._optimization.is_main:
            self._save_epoch(data, found, on_message)
        self._optimization.wait()

    def _open_folder(self, resume: bool) -> None:
        """Make the folder, or restore the run that it holds."""
        if self._optimization.is_main:
            self.folder.recover()
        self._optimization.wait()
        if not self.folder.holds_run:
            make_output_folder(self.folder.path)
            return
        if not resume:
            raise UsageError(
                f"{self.folder.path}: holds a training run: set `resume` to continue it, or choose "
                "another `folder`"
            )
        state = self.folder.read_state()
        differences = self._identity.differences(state.identity)
        if differences:
            raise UsageError(
                f"{self.folder.path}: holds a run with other settings or data: "
                f"{', '.join(differences)}: give the same again, or choose another `folder`"
            )
        self._history = list(state.history)
        self.folder.load_last(self._optimization)

    def _train_epoch(
        self, train: LabelledManifest | FeatureRows, epoch: int, progress: TrainingProgress
    ) -> float:
        try:
            return self._optimization.train_epoch(train, epoch, progress)
        except TrainingError as error:
            if not self.folder.best.is_dir():
                raise
            raise TrainingError(
                f"{error}; {self.folder.best} still holds the last good checkpoint"
            ) from error

    def _validate(self, scored: LabelledLogits) -> _Validation:
        logits, labels = scored.logits, self.info.labels
        temperatures = fit_temperatures(logits, scored.label_a, scored.label_b)
        open_set = fit_open_set(self.model, logits, temperatures, scored.label_b, labels)
        scores = scored.calibrated(self.model, temperatures, labels)
        return _Validation(temperatures, fit_decisions(scores, open_set), compute_metrics(scores))

    def _epoch_record(
        self, epoch: int, losses: tuple[float, float], metrics: Metrics, started: float
    ) -> EpochRecord:
        loss, validation_loss = losses
        return EpochRecord(
            epoch=epoch + 1,
            loss=loss,
            validation_loss=validation_loss,
            binary_f1_a=metrics.a.binary_f1,
            macro_f1_a=metrics.a.macro_f1,
            macro_f1_b=metrics.b.macro_f1,
            auroc_a=metrics.a.auroc,
            score=_score(metrics, self.config.select_by),
            seconds=round(time.perf_counter() - started, 1),
            processes=self._optimization.process.world_size,
        )

    def _save_epoch(self, data: TrainingData, found: _Validation, on_message: OnMessage) -> None:
        """Report the epoch, and write its checkpoint if it is the best, its state and history."""
        epoch = self._history[-1]
        on_message(epoch.summary())
        if all(epoch.score > item.score for item in self._history[:-1]):
            self._save_best(data, found)
        state = TrainingState(self._identity, tuple(self._history))
        self.folder.save_last(self._optimization, state)
        if epoch.epoch == self.config.epochs and OTHER in found.decisions.refused:
            on_message(f"not fitted: {found.decisions.refused[OTHER]}")

    def _save_best(self, data: TrainingData, found: _Validation) -> None:
        metrics = found.metrics
        names = {"train": data.train.name, "validation": data.validation.name}
        info = dataclasses.replace(
            self.info,
            temperatures=found.temperatures,
            thresholds=found.decisions.thresholds,
            miss_thresholds=found.decisions.miss_thresholds,
            open_set=found.decisions.open_set,
            fitted_on=FittedOn(names["validation"], metrics.rows, metrics.a.real_rows, TORCH),
            training=RunRecord(self.config, names, self._history[-1], metrics).to_json(),
        )
        plain = merge_adapters(self.model)
        save_checkpoint(plain, info, self._tokenizer_file, self.folder.best)

    def _identify(self, data: TrainingData) -> RunIdentity:
        return RunIdentity(
            config=self.config,
            text_config=self.info.text_config,
            image_config=self.info.image_config,
            pretrained=self._pretrained,
            fusion_hidden=self.info.fusion_hidden,
            image=self.info.image,
            without=data.train.without,
            labels=self.info.labels,
            label_column=data.train.choice.label_column,
            generator_column=data.train.choice.generator_column,
            train=tuple(file.digest for file in data.train.files),
            validation=tuple(file.digest for file in data.validation.files),
        )


def _score(metrics: Metrics, select_by: str) -> float:
    """Return what the best epoch has most of."""
    if select_by == "binary_f1_a":
        return metrics.a.binary_f1 or 0.0
    return (metrics.a.macro_f1 or 0.0) + (metrics.b.macro_f1 or 0.0)
