"""The folder of a training run: the best checkpoint, the state to resume from, the history."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aigid.errors import AigidError, UsageError
from aigid.storage import restore_folder, staged_folder
from aigid.training.adamw import adamw_state, load_adamw_state
from aigid.training.checkpoint import load_weights, save_tensors
from aigid.training.fusion_model import FusionModel
from aigid.training.optimization import Optimization
from aigid.training.run_records import EpochRecord, TrainingState

_WEIGHTS, _OPTIMIZER, _STATE = "model.safetensors", "adamw.safetensors", "state.json"


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run: `best/` is a checkpoint, `last/` the state, history.json the metrics."""

    path: Path

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch so far."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """The state after the last epoch."""
        return self.path / "last"

    @property
    def features(self) -> Path:
        """The features of frozen encoders, unless another folder was named for them."""
        return self.path / "features"

    @property
    def history_file(self) -> Path:
        """The records of all epochs."""
        return self.path / "history.json"

    @property
    def holds_run(self) -> bool:
        """Whether a run left a state here to resume from."""
        return (self.last / _STATE).is_file()

    def recover(self) -> None:
        """Bring back the state, where a run was killed while it replaced it."""
        restore_folder(self.last)

    def read_state(self) -> TrainingState:
        """Return the state; raises UsageError where it is damaged or of another version."""
        file = self.last / _STATE
        try:
            return TrainingState.from_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, KeyError, TypeError, ValueError, AttributeError, AigidError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UsageError(
                f"{file}: not a state that this version of aigid can resume "
                f"({type(error).__name__}: {reason}): choose another `folder`"
            ) from error

    def load_last(self, optimization: Optimization) -> None:
        """Restore the weights and the optimizer; raises CheckpointError or UsageError."""
        load_weights(optimization.model, self.last / _WEIGHTS)
        load_adamw_state(optimization.model, optimization.adamw, self._read_optimizer())

    def save_last(self, optimization: Optimization, state: TrainingState) -> None:
        """Replace the state as a whole, and write the history."""
        with staged_folder(self.last) as folder:
            save_tensors(_weights(optimization.model), folder / _WEIGHTS)
            state_of_adamw = adamw_state(optimization.model, optimization.adamw)
            save_tensors(state_of_adamw, folder / _OPTIMIZER)
            (folder / _STATE).write_text(json.dumps(state.to_json()), encoding="utf-8")
            self._write_history(state.history)

    def _read_optimizer(self) -> Mapping[str, Tensor]:
        file = self.last / _OPTIMIZER
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{file}: damaged: {error}: choose another `folder`") from error

    def _write_history(self, history: Iterable[EpochRecord]) -> None:
        values = [epoch.to_json() for epoch in history]
        self.history_file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _weights(model: FusionModel) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in model.state_dict().items()}
