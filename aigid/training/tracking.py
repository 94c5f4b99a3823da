"""The trackers that a run reports its metrics to: TensorBoard, Weights & Biases, MLflow."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration

from aigid.errors import MissingExtraError, TrainingError, UsageError
from aigid.extras import missing_extra

TRACKERS = ("tensorboard", "wandb", "mlflow")
LOG_FOLDER = "logs"


@dataclass(frozen=True)
class Tracking:
    """Where a run reports to: `report_to` names trackers, `folder` is the run's.

    TensorBoard's event files lie in `folder`/logs/`project`. Weights & Biases and MLflow get a run
    with the name of `folder` in the project or experiment `project`. Raises UsageError for an
    unknown tracker.
    """

    folder: Path
    report_to: tuple[str, ...] = ()
    project: str = "aigid"

    def __post_init__(self) -> None:
        unknown = [name for name in self.report_to if name not in TRACKERS]
        if unknown:
            raise UsageError(
                f"`report_to` must be among {', '.join(TRACKERS)}: got {', '.join(unknown)}"
            )

    def check_packages(self) -> None:
        """Raise MissingExtraError where a tracker's package is not installed.

        accelerate leaves such a tracker out without a word.
        """
        available = [str(name) for name in get_available_trackers()]
        for name in self.report_to:
            if name in available:
                continue
            if name == "tensorboard":
                missing = ModuleNotFoundError(name=name)
                raise missing_extra("`report_to` tensorboard", missing, "train")
            raise MissingExtraError(f"`report_to` {name} needs {name}: pip install {name}")


def new_accelerator(precision: str, tracking: Tracking | None = None) -> Accelerator:
    """Return the accelerator of a run, for a precision of PRECISIONS."""
    mixed = "no" if precision == "fp32" else precision
    if tracking is None:
        return Accelerator(mixed_precision=mixed)
    folder = str(tracking.folder)
    return Accelerator(
        mixed_precision=mixed,
        log_with=list(tracking.report_to) or None,
        project_config=ProjectConfiguration(folder, logging_dir=f"{folder}/{LOG_FOLDER}"),
    )


@contextmanager
def tracked(
    accelerator: Accelerator, tracking: Tracking, settings: Mapping[str, Any], first_step: int
) -> Iterator[None]:
    """Open the trackers in the main process, and close them afterwards.

    In other processes `log_metrics` does nothing. `settings` are the run's. Event files of an
    interrupted run may hold steps from `first_step` on: TensorBoard drops them. Raises
    TrainingError where a tracker cannot start.
    """
    if accelerator.is_main_process:
        _start(accelerator, tracking, settings, first_step)
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers.clear()


def log_metrics(
    accelerator: Accelerator, group: str, metrics: Mapping[str, float], step: int
) -> None:
    """Report metrics under names of the form GROUP/NAME, after `step` optimizer steps."""
    accelerator.log({f"{group}/{name}": value for name, value in metrics.items()}, step=step)


def _start(
    accelerator: Accelerator, tracking: Tracking, settings: Mapping[str, Any], first_step: int
) -> None:
    own = {
        "tensorboard": {"purge_step": first_step},
        "wandb": {"name": tracking.folder.name, "dir": str(tracking.folder)},
        "mlflow": {"run_name": tracking.folder.name},
    }
    try:
        accelerator.init_trackers(tracking.project, init_kwargs=own)
        for tracker in accelerator.trackers:
            # TensorBoard would get a run of its own for the settings, at each start. They stand in
            # state.json.
            if tracker.name != "tensorboard":
                tracker.store_init_configuration(_flat(settings))
    except Exception as error:  # each service has exceptions of its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise TrainingError(
            f"`report_to` {', '.join(tracking.report_to)}: cannot start: {reason}"
        ) from error


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under names with dots."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
