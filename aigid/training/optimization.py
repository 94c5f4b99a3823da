"""Epochs of optimizer steps: in parts where a batch is too large, in mixed precision, on several devices (accelerate)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from aigid.errors import TrainingError
from aigid.training.config import TrainingConfig
from aigid.training.datasets import LabelledManifest, Share, StreamOrder, TrainingBatch
from aigid.training.fusion_model import FusionModel, Logits
from aigid.training.inference import LabelledLogits, score_manifest
from aigid.training.losses import EVEN, BatchTotals, balanced_weights, batch_totals
from aigid.training.training_progress import TrainingProgress
from aigid.training.training_step import TrainingStep
from aigid.training.tuning import training_mode

_WARM_UP = 0.15
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Optimization:
    """A model that learns, with its optimizer; in each process of a run that `accelerate launch` started."""

    def __init__(
        self, model: FusionModel, config: TrainingConfig, rows_of_classes: tuple[int, ...]
    ) -> None:
        """Bring `model` to this process's device; `rows_of_classes` are the rows an epoch draws of each source."""
        self._accelerator = Accelerator(
            mixed_precision="no" if config.precision == "fp32" else config.precision
        )
        self.model, self.config = model, config
        self._weights = balanced_weights(rows_of_classes) if config.loss.class_balanced else EVEN
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.adamw = torch.optim.AdamW(
            trained, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        step = TrainingStep(model, config.loss, self._weights)
        self._step, self._optimizer = self._accelerator.prepare(step, self.adamw)
        self.share = Share(self._accelerator.process_index, self._accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and tells."""
        return bool(self._accelerator.is_main_process)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self._accelerator.wait_for_everyone()

    def train_epoch(self, train: LabelledManifest, epoch: int, progress: TrainingProgress) -> float:
        """One pass over a manifest; gives the mean loss of its batches.

        Raises TrainingError where the loss is no number, or there is not enough memory.
        """
        config = self.config
        training_mode(self.model)
        torch.manual_seed((config.seed * 100_003 + epoch) * 1009 + self.share.index)
        rows = sum(train.rows_drawn(config.oversample_real))
        steps_an_epoch = math.ceil(rows / config.batch_rows)
        if self.is_main:
            progress.start(rows, 0)
        losses: list[float] = []
        order = StreamOrder(
            config.seed,
            epoch,
            config.oversample_real,
            config.augmentation,
            paired=config.loss.consistency > 0,
        )
        for batch in train.batches(config.batch_rows, order, self.share):
            totals, undecodable = self._totals(batch)
            if totals is not None:
                # Of the epoch and the step in it alone, so that a resumed run goes on where it was.
                step = epoch * steps_an_epoch + len(losses)
                for group in self.adamw.param_groups:
                    group["lr"] = learning_rate_at(config, step, config.epochs * steps_an_epoch)
                losses.append(
                    self._take_step(batch, totals, f"epoch {epoch + 1}, step {len(losses) + 1}")
                )
            if self.is_main:
                progress.advance(int(totals.rows if totals else 0) + undecodable, undecodable)
        if not losses:
            raise TrainingError(f"{train.files[0].path}: not one image could be decoded")
        return sum(losses) / len(losses)

    def score(self, manifest: LabelledManifest) -> LabelledLogits:
        """The logits of every row of a manifest, by all processes together."""
        scored = score_manifest(self.model, manifest, self.config.batch_rows, share=self.share)
        own = [tuple(part.numpy() for part in (*scored.logits, scored.label_a, scored.label_b))]
        gathered: list[tuple[Any, ...]] = gather_object(own)
        a, b, label_a, label_b = (
            torch.cat([torch.from_numpy(part) for part in parts])
            for parts in zip(*gathered, strict=True)
        )
        return LabelledLogits(Logits(a, b), label_a, label_b, manifest.rows - len(a))

    def _totals(self, batch: TrainingBatch) -> tuple[BatchTotals | None, int]:
        """Of the batch over all processes, None where one of them has nothing of it; and how many rows it lost."""
        own = batch_totals(
            torch.from_numpy(batch.label_a), torch.from_numpy(batch.label_b), self._weights
        )
        counts = torch.tensor(
            [[*own, batch.undecodable]], dtype=torch.float32, device=self._accelerator.device
        )
        all_counts = self._accelerator.gather(counts).cpu()
        *totals, undecodable = all_counts.sum(dim=0).tolist()
        return BatchTotals(*totals) if bool(all_counts[:, 0].all()) else None, int(undecodable)

    def _take_step(self, batch: TrainingBatch, totals: BatchTotals, where: str) -> float:
        parts = batch.parts(self.config.gradient_accumulation_steps)
        loss = torch.zeros((), device=self._accelerator.device)
        with self._out_of_memory_said(where):
            self._optimizer.zero_grad()
            for number, part in enumerate(parts, start=1):
                # Gradients travel between the devices once, with those of the last part.
                with (
                    nullcontext() if number == len(parts) else self._accelerator.no_sync(self._step)
                ):
                    share = self._step(*self._tensors(part), totals)
                    # Processes' gradients are averaged, but their shares add up.
                    self._accelerator.backward(share * self.share.of)
                    loss += share.detach()
            value = float(self._accelerator.reduce(loss, "sum"))
            if not math.isfinite(value):
                raise TrainingError(f"{where}: the loss is {value}; lower the learning rate")
            self._accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
        return value

    def _tensors(self, part: TrainingBatch) -> Iterator[Tensor]:
        for array in (
            part.all_images(),
            part.tokens.input_ids,
            part.tokens.attention_mask,
            part.label_a,
            part.label_b,
        ):
            yield torch.from_numpy(array).to(self._accelerator.device)

    @contextmanager
    def _out_of_memory_said(self, where: str) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(
                word in str(error) for word in _NO_MEMORY
            ):
                raise
            config = self.config
            raise TrainingError(
                f"{where}: out of memory on {self._accelerator.device}: raise --gradient-accumulation-steps (now {config.gradient_accumulation_steps}) or lower "
                f"--batch-size (now {config.batch_rows}); --precision bf16 and --encoders lora or frozen need less too"
            ) from error


def learning_rate_at(config: TrainingConfig, step: int, steps: int) -> float:
    """The learning rate of step number `step` of `steps`."""
    warm_up = max(1, int(_WARM_UP * steps))
    if config.schedule == "constant":
        factor = 1.0
    elif step < warm_up:
        factor = (step + 1) / warm_up
    else:
        factor = 0.5 * (
            1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up)))
        )
    return config.learning_rate * factor


def moments(optimization: Optimization) -> dict[str, Tensor]:
    """AdamW's state by the parameters' names, `NAME|KEY`."""
    names = {id(value): name for name, value in optimization.model.named_parameters()}
    return {
        f"{names[id(parameter)]}|{key}": value.clone().contiguous()
        for parameter, state in optimization.adamw.state.items()
        for key, value in state.items()
    }


def load_moments(optimization: Optimization, found: dict[str, Any]) -> None:
    """Put back what `moments` gave."""
    parameters = dict(optimization.model.named_parameters())
    for key, value in found.items():
        name, _, moment = key.rpartition("|")
        parameter = parameters[name]
        # The count of steps stays on the CPU, as AdamW has it.
        optimization.adamw.state[parameter][moment] = (
            value if moment == "step" else value.to(parameter.device)
        )
