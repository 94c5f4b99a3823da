"""Epochs of optimizer steps: gradient accumulation, mixed precision, distributed by accelerate."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from aigid.errors import TrainingError
from aigid.training.adamw import learning_rate_at, new_adamw
from aigid.training.config import TrainingConfig
from aigid.training.datasets import LabelledManifest, ProcessRank, StreamOrder
from aigid.training.features import FeatureRows
from aigid.training.fusion_model import FusionModel
from aigid.training.heads import Logits
from aigid.training.inference import LabelledLogits, score_manifest
from aigid.training.labels import LabelCounts
from aigid.training.losses import BatchTotals, balanced_weights, batch_totals, equal_weights
from aigid.training.tracking import log_metrics, new_accelerator
from aigid.training.training_batch import FeatureBatch, TrainingBatch
from aigid.training.training_progress import TrainingProgress
from aigid.training.training_step import FeatureStep, TrainingStep
from aigid.training.tuning import set_training_mode

_Batch = TrainingBatch | FeatureBatch
_Found = TypeVar("_Found")

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Optimization:
    """A model with its optimizer, in each process of a run that `accelerate launch` started."""

    def __init__(
        self,
        model: FusionModel,
        config: TrainingConfig,
        counts: LabelCounts,
        accelerator: Accelerator | None = None,
        *,
        on_features: bool = False,
    ) -> None:
        """Move `model` to this process's device.

        `counts` says how many rows of which label an epoch has. Metrics of each step go to the
        trackers of `accelerator`; None means a new one without any. With `on_features` the rows of
        all epochs are features, and the encoders are not run.
        """
        self._accelerator = accelerator or new_accelerator(config.precision)
        self.model, self.config = model, config
        self._rows_per_epoch = counts.rows
        self.steps_per_epoch = math.ceil(self._rows_per_epoch / config.batch_rows)
        balanced = config.loss.class_balanced
        self._weights = balanced_weights(counts) if balanced else equal_weights(len(counts.classes))
        self.adamw = new_adamw(model, config)
        make_step = FeatureStep if on_features else TrainingStep
        step = make_step(model, config.loss, self._weights)
        self._step, self._optimizer = self._accelerator.prepare(step, self.adamw)
        self.process = ProcessRank(self._accelerator.process_index, self._accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and reports progress."""
        return bool(self._accelerator.is_main_process)

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        self._accelerator.wait_for_everyone()

    def if_all_have(self, found: _Found | None) -> _Found | None:
        """Return what this process found, or None if one of the processes found nothing."""
        all_found: list[bool] = gather_object([found is not None])
        return found if all(all_found) else None

    def train_epoch(
        self, train: LabelledManifest | FeatureRows, epoch: int, progress: TrainingProgress
    ) -> float:
        """Train on every row of an epoch and return the mean loss of its batches.

        Raises TrainingError where the loss is not finite, memory runs out, or not one image could
        be decoded.
        """
        config = self.config
        set_training_mode(self.model)
        torch.manual_seed((config.seed * 100_003 + epoch) * 1009 + self.process.rank)
        if self.is_main:
            progress.start(self._rows_per_epoch, 0)
        losses: list[float] = []
        for batch in train.batches(config.batch_rows, self._epoch_order(epoch), self.process):
            totals, undecodable = self._gather_totals(batch)
            if totals is not None:
                # A function of the epoch and the steps taken in it, so that a resumed run agrees.
                step = epoch * self.steps_per_epoch + len(losses)
                where = f"epoch {epoch + 1}, step {len(losses) + 1}"
                losses.append(self._take_step(batch, totals, step, where))
            if self.is_main:
                progress.advance(int(totals.rows if totals else 0) + undecodable, undecodable)
        if not losses:
            raise TrainingError(f"{train.files[0].path}: not one image could be decoded")
        return sum(losses) / len(losses)

    def score(self, manifest: LabelledManifest | FeatureRows) -> LabelledLogits:
        """Return the logits of every row of a manifest, scored by all processes together."""
        scored = score_manifest(self.model, manifest, self.config.batch_rows, process=self.process)
        parts = (*scored.logits, scored.label_a, scored.label_b)
        own = [tuple(part.numpy() for part in parts)]
        gathered: list[tuple[Any, ...]] = gather_object(own)
        a, b, label_a, label_b = (
            torch.cat([torch.from_numpy(part) for part in parts])
            for parts in zip(*gathered, strict=True)
        )
        return LabelledLogits(Logits(a, b), label_a, label_b, manifest.rows - len(a))

    def _epoch_order(self, epoch: int) -> StreamOrder:
        config = self.config
        return StreamOrder(
            config.seed,
            epoch,
            config.oversample_real,
            config.augmentation,
            paired=config.loss.consistency > 0,
        )

    def _set_learning_rate(self, step: int) -> float:
        rate = learning_rate_at(self.config, step, self.config.epochs * self.steps_per_epoch)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        return rate

    def _gather_totals(self, batch: _Batch) -> tuple[BatchTotals | None, int]:
        """Return the totals and the number of undecodable rows of the batch over all processes.

        The totals are None where a process has no rows of the batch: all processes then skip it.
        """
        own = batch_totals(
            torch.from_numpy(batch.label_a), torch.from_numpy(batch.label_b), self._weights
        )
        counts = torch.tensor(
            [[*own, batch.undecodable]], dtype=torch.float32, device=self._accelerator.device
        )
        all_counts = self._accelerator.gather(counts).cpu()
        *totals, undecodable = all_counts.sum(dim=0).tolist()
        return BatchTotals(*totals) if bool(all_counts[:, 0].all()) else None, int(undecodable)

    def _take_step(self, batch: _Batch, totals: BatchTotals, step: int, where: str) -> float:
        """Take optimizer step number `step` of the run, from 0; return the loss of the batch."""
        micro_batches: Sequence[_Batch] = batch.micro_batches(
            self.config.gradient_accumulation_steps
        )
        loss = torch.zeros((), device=self._accelerator.device)
        learning_rate = self._set_learning_rate(step)
        with self._explain_out_of_memory(where):
            self._optimizer.zero_grad()
            for number, micro_batch in enumerate(micro_batches, start=1):
                # Gradients are synchronised once, with those of the last micro-batch.
                is_last = number == len(micro_batches)
                with nullcontext() if is_last else self._accelerator.no_sync(self._step):
                    part = self._step(*self._tensors(micro_batch), totals)
                    # The processes' gradients are averaged, but their parts of the loss add up.
                    self._accelerator.backward(part * self.process.world_size)
                    loss += part.detach()
            value = float(self._accelerator.reduce(loss, "sum"))
            if not math.isfinite(value):
                raise TrainingError(f"{where}: the loss is {value}: lower `learning_rate`")
            norm = self._accelerator.clip_grad_norm_(
                self.model.parameters(), self.config.max_gradient_norm
            )
            self._optimizer.step()
        metrics = {"loss": value, "learning_rate": learning_rate, "gradient_norm": float(norm)}
        log_metrics(self._accelerator, "train", metrics, step + 1)
        return value

    def _tensors(self, batch: _Batch) -> Iterator[Tensor]:
        for array in batch.inputs():
            yield torch.from_numpy(array).to(self._accelerator.device)

    @contextmanager
    def _explain_out_of_memory(self, where: str) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(
                word in str(error) for word in _NO_MEMORY
            ):
                raise
            config = self.config
            raise TrainingError(
                f"{where}: out of memory on {self._accelerator.device}: raise "
                f"`gradient_accumulation_steps` (now {config.gradient_accumulation_steps}) or "
                f"lower `batch_rows` (now {config.batch_rows}). `precision` bf16 and `encoders` "
                "lora or frozen need less memory too"
            ) from error
