"""What a run reports to its trackers, read back from TensorBoard's event files."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aigid.errors import MissingExtraError, TrainingError, UsageError
from aigid.training.adamw import learning_rate_at
from aigid.training.checkpoint import CheckpointInfo
from aigid.training.config import TrainingConfig
from aigid.training.optimization import Optimization
from aigid.training.run import RunConfig, train
from aigid.training.tracking import Tracking, log_metrics, new_accelerator, tracked

Label = Callable[..., Path]
# 12 rows in batches of 4: 3 steps an epoch.
CONFIG = TrainingConfig(epochs=3, batch_rows=4, learning_rate=1e-3)
STEPS = 3


@pytest.fixture
def run(
    write_labelled: Label, tokenizer_file: Path, tiny_info: CheckpointInfo, tmp_path: Path
) -> RunConfig:
    for name in ("text_config", "image_config"):
        (tmp_path / f"{name}.json").write_text(json.dumps(getattr(tiny_info, name)))
    return RunConfig(
        train=(str(write_labelled([*range(6)] * 2, "train.parquet")),),
        validation=(str(write_labelled([*range(6)], "validation.parquet")),),
        text_encoder=str(tmp_path / "text_config.json"),
        image_encoder=str(tmp_path / "image_config.json"),
        folder=tmp_path / "run",
        tokenizer=tokenizer_file,
        fusion_hidden=8,
        name="my-model",
        training=CONFIG,
    )


def silent(line: str) -> None:
    """Ignore a message."""


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return steps and values by name, from all event files of a run."""
    events = EventAccumulator(str(folder / "logs" / "my-model"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_a_run_leaves_its_metrics_as_tensorboard_events(run: RunConfig, progress: object) -> None:
    train(run, progress, silent)
    events = read_events(run.folder)
    last = CONFIG.epochs * STEPS
    for name in ("loss", "learning_rate", "gradient_norm"):
        assert [step for step, _ in events[f"train/{name}"]] == [*range(1, last + 1)]
    assert [value for _, value in events["train/learning_rate"]] == pytest.approx(
        [learning_rate_at(CONFIG, step, last) for step in range(last)]
    )
    assert all(value > 0 for _, value in events["train/gradient_norm"])
    history = json.loads((run.folder / "history.json").read_text())
    losses = [value for _, value in events["train/loss"]]
    assert [sum(losses[start : start + STEPS]) / STEPS for start in range(0, last, STEPS)] == (
        pytest.approx([epoch["loss"] for epoch in history])
    )
    for name, field_name in (
        ("loss", "validation_loss"),
        ("binary_f1_a", "binary_f1_a"),
        ("macro_f1_a", "macro_f1_a"),
        ("macro_f1_b", "macro_f1_b"),
        ("auroc_a", "auroc_a"),
    ):
        assert events[f"validation/{name}"] == [
            (epoch["epoch"] * STEPS, pytest.approx(epoch[field_name])) for epoch in history
        ]


def test_a_killed_and_resumed_run_has_every_step_once(
    run: RunConfig, progress: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(run, folder=run.folder.with_name("whole"))
    train(whole, progress, silent)
    take_step = Optimization._take_step

    def killed(self: Optimization, *arguments: Any) -> float:
        loss = take_step(self, *arguments)
        if arguments[2] == STEPS + 1:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(Optimization, "_take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(run, progress, silent)
    # Two steps of the second epoch are reported, and not in the state that the run resumes from.
    assert [step for step, _ in read_events(run.folder)["train/loss"]] == [1, 2, 3, 4, 5]
    monkeypatch.undo()
    train(run, progress, silent, resume=True)
    assert read_events(run.folder) == read_events(whole.folder)


def test_a_finished_run_resumed_writes_no_events(run: RunConfig, progress: object) -> None:
    config = replace(run, training=replace(CONFIG, epochs=1))
    train(config, progress, silent)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    train(config, progress, silent, resume=True)
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


def test_a_run_without_trackers_leaves_no_events(run: RunConfig, progress: object) -> None:
    config = replace(run, report_to=(), training=replace(CONFIG, epochs=1))
    train(config, progress, silent)
    assert sorted(path.name for path in run.folder.iterdir()) == ["best", "history.json", "last"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_refused_before_the_folder_is_made(
    run: RunConfig, progress: object, name: str
) -> None:
    with pytest.raises(MissingExtraError) as refused:
        train(replace(run, report_to=("tensorboard", name)), progress, silent)
    assert str(refused.value) == f"`report_to` {name} needs {name}: pip install {name}"
    assert not run.folder.exists()


def test_an_unknown_tracker_is_refused(run: RunConfig, progress: object) -> None:
    with pytest.raises(UsageError, match="`report_to` must be among .* got paper, chart"):
        train(replace(run, report_to=("paper", "tensorboard", "chart")), progress, silent)
    assert not run.folder.exists()


def test_a_tracker_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder of the event files is to be")
    tracking = Tracking(tmp_path, ("tensorboard",))
    accelerator = new_accelerator("fp32", tracking)
    with (
        pytest.raises(TrainingError, match="`report_to` tensorboard: cannot start: .*Error: "),
        tracked(accelerator, tracking, {}, 1),
    ):
        raise AssertionError("the trackers did start")


@dataclass
class Service(GeneralTracker):
    """Stands for a service of experiment tracking: it keeps what it is told."""

    name: str = "service"
    requires_logging_directory: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    logged: list[tuple[dict[str, float], int]] = field(default_factory=list)
    finished: bool = False

    @property
    def tracker(self) -> "Service":
        return self

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, float], step: int, **options: object) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished = True


def test_a_service_gets_flat_settings_and_the_metrics_and_is_closed(tmp_path: Path) -> None:
    service = Service()
    accelerator = Accelerator(log_with=[service])
    with (
        pytest.raises(KeyboardInterrupt),
        tracked(accelerator, Tracking(tmp_path), CONFIG.to_json(), 1),
    ):
        log_metrics(accelerator, "train", {"loss": 0.5}, 3)
        raise KeyboardInterrupt
    assert service.settings["learning_rate"] == 1e-3
    assert service.settings["augmentation.jpeg"] == 0.0
    assert service.logged == [({"train/loss": 0.5}, 3)]
    assert service.finished
