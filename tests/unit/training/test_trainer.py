import io
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from aigid.contract import FittedOn, Resizing
from aigid.errors import TrainingError, UsageError
from aigid.training import optimization as optimization_module
from aigid.training import trainer as trainer_module
from aigid.training.adamw import learning_rate_at
from aigid.training.checkpoint import CheckpointInfo, load_checkpoint, new_model
from aigid.training.config import SCHEDULES, TrainingConfig
from aigid.training.datasets import LabelledManifest, ProcessRank, StreamOrder
from aigid.training.fusion_model import FusionModel
from aigid.training.image_changes import Augmentation
from aigid.training.inference import score_manifest
from aigid.training.losses import LossConfig
from aigid.training.metrics import LabelledScores, compute_metrics
from aigid.training.run_records import TrainingState
from aigid.training.tracking import Tracking
from aigid.training.trainer import Trainer, TrainingData
from aigid.training.training_batch import TrainingBatch

KEY_BIAS = re.compile(r"(k_proj|key)\.bias$")
COLOURS = ((128, 128, 128), (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250))
CONFIG = TrainingConfig(
    epochs=3,
    batch_rows=8,
    learning_rate=3e-3,
    schedule="one_cycle",
    select_by="macro_f1",
    augmentation=Augmentation(flip=0.5),
    seed=5,
)


def encode_colour(label: int, seed: int) -> bytes:
    """Return an image in the colour of its class, with some noise."""
    noise = np.random.default_rng(seed).normal(0, 12, (32, 32, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def write_colours(path: Path, scenes: int, seed: int, broken: tuple[int, ...] = ()) -> Path:
    labels = list(range(6)) * scenes
    images = [
        b"broken" if row in broken else encode_colour(label, seed + row)
        for row, label in enumerate(labels)
    ]
    columns = {"image": images, "prompt": ["a plain image"] * len(labels), "Label_B": labels}
    pq.write_table(
        pa.table({**columns, "Label_A": [int(label > 0) for label in labels]}),
        path,
        row_group_size=10,
    )
    return path


@pytest.fixture
def data(tmp_path: Path, open_labelled: Callable[..., LabelledManifest]) -> TrainingData:
    files = (
        write_colours(tmp_path / "train.parquet", 6, 0),
        write_colours(tmp_path / "validation.parquet", 3, 9000),
    )
    return TrainingData(*map(open_labelled, files))


@pytest.fixture
def make_trainer(tiny_info: CheckpointInfo, tokenizer_file: Path) -> Callable[..., Trainer]:
    """Return a function that makes a trainer of the tiny model, with the same first weights."""

    def make(
        folder: Path,
        config: TrainingConfig = CONFIG,
        info: CheckpointInfo = tiny_info,
        report_to: tuple[str, ...] = (),
    ) -> Trainer:
        torch.manual_seed(11)
        tracking = Tracking(folder, report_to)
        return Trainer(new_model(info), info, tokenizer_file, config, tracking)

    return make


class KilledError(Exception):
    """Stands for a kill of the process after an epoch was committed."""


def kill_after(epochs: int) -> Callable[[str], None]:
    """Return a callback that ends the run in the epoch after these."""
    lines: list[str] = []

    def on_message(line: str) -> None:
        lines.append(line)
        if len(lines) > epochs:
            raise KilledError

    return on_message


def silent(line: str) -> None:
    """Ignore a message."""


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def history(folder: Path) -> list[dict[str, float]]:
    """Return history.json without the durations."""
    return [
        {key: value for key, value in item.items() if key != "seconds"}
        for item in read_json(folder / "history.json")
    ]


def read_json(path: Path) -> list[dict[str, float]]:
    return list(json.loads(path.read_text()))


def test_a_tiny_model_learns_what_can_be_learnt(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=12, learning_rate=1e-2)
    messages: list[str] = []
    best = make_trainer(tmp_path / "run", config).run(data, progress, messages.append)
    loaded = load_checkpoint(best)
    scored = score_manifest(loaded.model, data.validation, 6)
    p_ai = torch.sigmoid(scored.logits.a / loaded.info.temperatures.a).numpy()
    found = compute_metrics(
        LabelledScores(
            scored.label_a.numpy(),
            scored.label_b.numpy(),
            p_ai,
            torch.softmax(scored.logits.b, dim=1).numpy(),
            p_ai,
            loaded.info.labels,
        )
    )
    assert found.a.macro_f1 > 0.9
    assert found.b.macro_f1 > 0.9
    losses = [item["loss"] for item in history(tmp_path / "run")]
    assert losses[-1] < 0.3 * losses[0]
    epochs = [f"epoch {number}" for number in range(1, 13)]
    assert [line.split(":")[0] for line in messages[:-1]] == epochs
    assert messages[-1].startswith("not fitted: the source other needs 25 rows of each generator")


def test_progress_counts_every_row_of_an_epoch(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    make_trainer(tmp_path / "run", replace(CONFIG, epochs=1, oversample_real=3)).run(
        data, progress, silent
    )
    # 36 rows, of which the 6 real ones come three times.
    assert (progress.total, progress.rows, progress.errors) == (48, 48, 0)


def test_each_epoch_has_an_order_of_its_own(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders: list[StreamOrder | None] = []
    batches = data.train.batches

    def recorded(
        batch_rows: int, order: StreamOrder | None, process: ProcessRank
    ) -> Iterator[TrainingBatch]:
        orders.append(order)
        return batches(batch_rows, order, process)

    monkeypatch.setattr(data.train, "batches", recorded)
    make_trainer(tmp_path / "run", replace(CONFIG, epochs=2, oversample_real=2)).run(
        data, progress, silent
    )
    assert orders == [
        StreamOrder(5, epoch, oversample_real=2, augmentation=CONFIG.augmentation)
        for epoch in range(2)
    ]


def test_two_runs_of_one_seed_are_the_same_bytes_and_of_another_are_not(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    for name, seed in {"one": 5, "two": 5, "other": 6}.items():
        make_trainer(tmp_path / name, replace(CONFIG, epochs=1, seed=seed)).run(
            data, progress, silent
        )
    assert weights(tmp_path / "one" / "last") == weights(tmp_path / "two" / "last")
    assert weights(tmp_path / "one" / "last") != weights(tmp_path / "other" / "last")


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_resumed_run_ends_with_the_very_weights_of_an_uninterrupted_one(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    schedule: str,
    epochs: int,
) -> None:
    config = replace(CONFIG, schedule=schedule)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    make_trainer(whole, config).run(data, progress, silent)
    with pytest.raises(KilledError):
        make_trainer(killed, config).run(data, progress, kill_after(epochs))
    assert len(history(killed)) == epochs
    make_trainer(killed, config).run(data, progress, silent, resume=True)
    for name in ("last", "best"):
        assert weights(killed / name) == weights(whole / name)
    assert (killed / "last" / "adamw.safetensors").read_bytes() == (
        whole / "last" / "adamw.safetensors"
    ).read_bytes()
    assert history(killed) == history(whole)


def test_a_resumed_run_is_the_same_where_a_batch_was_lost_to_undecodable_rows(
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    open_labelled: Callable[..., LabelledManifest],
) -> None:
    # In batches of one row, each undecodable row is a step that the schedule counts but loses.
    train = open_labelled(write_colours(tmp_path / "t.parquet", 3, 0, broken=(2, 3, 11, 12, 13)))
    data = TrainingData(train, open_labelled(write_colours(tmp_path / "v.parquet", 1, 900)))
    config = replace(CONFIG, batch_rows=1)
    make_trainer(tmp_path / "whole", config).run(data, progress, silent)
    with pytest.raises(KilledError):
        make_trainer(tmp_path / "killed", config).run(data, progress, kill_after(1))
    make_trainer(tmp_path / "killed", config).run(data, progress, silent, resume=True)
    assert weights(tmp_path / "killed" / "last") == weights(tmp_path / "whole" / "last")


def test_a_run_killed_between_the_last_two_renames_is_resumed(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=1)
    make_trainer(tmp_path / "run", config).run(data, progress, silent)
    # A kill leaves this after the old state was set aside and before the new one is in its place.
    (tmp_path / "run" / "last").rename(tmp_path / "run" / ".last.old")
    with pytest.raises(UsageError, match="holds a training run"):
        make_trainer(tmp_path / "run", config).run(data, progress, silent)
    messages: list[str] = []
    make_trainer(tmp_path / "run", config).run(data, progress, messages.append, resume=True)
    assert messages == []


def test_a_finished_run_resumed_changes_nothing(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=1)
    best = make_trainer(tmp_path / "run", config).run(data, progress, silent)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert make_trainer(tmp_path / "run", config).run(data, progress, silent, resume=True) == best
    assert {
        path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()
    } == before


def test_resuming_an_empty_folder_starts_a_run(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=1)
    best = make_trainer(tmp_path / "new" / "run", config).run(data, progress, silent, resume=True)
    assert best == tmp_path / "new" / "run" / "best"
    assert len(history(tmp_path / "new" / "run")) == 1


@pytest.fixture
def used(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> Path:
    """Return the folder of a run that was killed after its first epoch."""
    with pytest.raises(KilledError):
        make_trainer(tmp_path / "used").run(data, progress, kill_after(1))
    return tmp_path / "used"


def test_a_used_folder_is_refused_without_resume(
    used: Path, data: TrainingData, make_trainer: Callable[..., Trainer], progress: object
) -> None:
    before = weights(used / "last")
    with pytest.raises(UsageError, match=f"{used}: holds a training run: set `resume`"):
        make_trainer(used).run(data, progress, silent)
    assert weights(used / "last") == before


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"epochs": 4}, r"`epochs` \(was 3, is 4\)"),
        ({"batch_rows": 4}, r"`batch_rows` \(was 8, is 4\)"),
        ({"learning_rate": 1e-4}, r"`learning_rate` \(was 0.003, is 0.0001\)"),
        ({"schedule": "constant"}, r'`schedule` \(was "one_cycle", is "constant"\)'),
        ({"seed": 1}, "`seed`"),
        ({"oversample_real": 2}, "`oversample_real`"),
        ({"max_gradient_norm": 2.0}, r"`max_gradient_norm` \(was 1.0, is 2.0\)"),
        ({"warmup_fraction": 0.5}, r"`warmup_fraction` \(was null, is 0.5\)"),
        ({"select_by": "binary_f1_a"}, r'`select_by` \(was "macro_f1", is "binary_f1_a"\)'),
        ({"loss": LossConfig(weight_b=2.0)}, r"`weight_b` \(was 1.0, is 2.0\)"),
        ({"augmentation": Augmentation(blur=0.5)}, "`augmentation`:"),
    ],
)
def test_a_run_of_other_settings_is_not_resumed(
    used: Path,
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    change: dict[str, object],
    difference: str,
) -> None:
    before = weights(used / "last")
    with pytest.raises(UsageError, match=f"{used}: holds a run with other settings .*{difference}"):
        make_trainer(used, replace(CONFIG, **change)).run(data, progress, silent, resume=True)
    assert weights(used / "last") == before


@pytest.mark.parametrize(
    ("part", "parameter"), [("text_config", "text_encoder"), ("image_config", "image_encoder")]
)
def test_a_run_of_another_encoder_is_not_resumed(
    used: Path,
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tiny_info: CheckpointInfo,
    part: str,
    parameter: str,
) -> None:
    other = replace(tiny_info, **{part: {**getattr(tiny_info, part), "intermediate_size": 48}})
    with pytest.raises(UsageError, match=f"other settings or data: `{parameter}`: give"):
        make_trainer(used, CONFIG, other).run(data, progress, silent, resume=True)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_run_on_other_data_is_not_resumed(
    used: Path,
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    open_labelled: Callable[..., LabelledManifest],
    part: str,
) -> None:
    before = weights(used / "last")
    other = replace(
        data, **{part: open_labelled(write_colours(tmp_path / "other.parquet", 4, 500))}
    )
    with pytest.raises(UsageError, match=f"other settings or data: `{part}`: give the same"):
        make_trainer(used).run(other, progress, silent, resume=True)
    assert weights(used / "last") == before


def test_a_run_is_resumed_where_its_data_was_moved(
    used: Path,
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    open_labelled: Callable[..., LabelledManifest],
) -> None:
    (tmp_path / "elsewhere").mkdir()
    files = [
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
        for name in ("train.parquet", "validation.parquet")
    ]
    make_trainer(used).run(TrainingData(*map(open_labelled, files)), progress, silent, resume=True)
    assert len(history(used)) == CONFIG.epochs


def test_a_run_of_another_fusion_width_is_not_resumed(
    used: Path,
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tiny_info: CheckpointInfo,
) -> None:
    with pytest.raises(UsageError, match=r"data: `fusion_hidden` \(was 24, is 20\)"):
        make_trainer(used, CONFIG, replace(tiny_info, fusion_hidden=20)).run(
            data, progress, silent, resume=True
        )


def test_a_run_of_other_preprocessing_is_not_resumed(
    used: Path,
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tiny_info: CheckpointInfo,
) -> None:
    native = replace(tiny_info, image=replace(tiny_info.image, resizing=Resizing.NATIVE_CROP))
    with pytest.raises(
        UsageError, match=r'data: `resizing` \(was "shorter_side", is "native_crop"\)'
    ):
        make_trainer(used, CONFIG, native).run(data, progress, silent, resume=True)


def test_the_best_checkpoint_is_of_the_best_epoch_and_calibrated_on_it(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A learning rate that is far too high after the second epoch spoils the weights.
    monkeypatch.setattr(
        optimization_module,
        "learning_rate_at",
        lambda config, step, steps: 1e-2 if step < 10 else 1.0,
    )
    best = make_trainer(tmp_path / "run", replace(CONFIG, epochs=4)).run(data, progress, silent)
    scores = [item["score"] for item in history(tmp_path / "run")]
    assert scores.index(max(scores)) < 3
    loaded = load_checkpoint(best)
    assert loaded.info.training["validation"]["epoch"] == scores.index(max(scores)) + 1
    assert weights(best) != weights(tmp_path / "run" / "last")
    # Three real rows are too few for a false-positive rate.
    assert loaded.info.thresholds == {}
    rows = loaded.info.training["metrics"]["rows"]
    assert loaded.info.fitted_on == FittedOn(data.validation.name, rows, 3, "torch fp32")
    assert loaded.info.training["data"] == {
        "train": data.train.name,
        "validation": data.validation.name,
    }
    scored = score_manifest(loaded.model, data.validation, CONFIG.batch_rows)
    assert loaded.info.temperatures == trainer_module.fit_temperatures(
        scored.logits, scored.label_a, scored.label_b
    )


@pytest.mark.parametrize(
    ("select_by", "best"),
    # The figures of an epoch are binary F1 of A and the macro-F1 of both. Two epochs are constant.
    [("binary_f1_a", 1), ("macro_f1", 3)],
)
def test_the_best_epoch_is_the_first_with_the_highest_score(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    select_by: str,
    best: int,
) -> None:
    figures = [(0.909, 0.455, 0.1), (0.909, 0.455, 0.1), (0.9, 0.7, 0.4), (0.8, 0.6, 0.5)]
    left = iter(figures)
    measured = trainer_module.compute_metrics

    def of_this_epoch(scores: LabelledScores) -> object:
        binary, macro_a, macro_b = next(left)
        found = measured(scores)
        return replace(
            found,
            a=replace(found.a, binary_f1=binary, macro_f1=macro_a),
            b=replace(found.b, macro_f1=macro_b),
        )

    monkeypatch.setattr(trainer_module, "compute_metrics", of_this_epoch)
    config = replace(CONFIG, epochs=4, select_by=select_by)
    folder = make_trainer(tmp_path / "run", config).run(data, progress, silent)
    assert load_checkpoint(folder).info.training["validation"]["epoch"] == best
    assert [
        (item["binary_f1_a"], item["macro_f1_a"], item["macro_f1_b"])
        for item in history(tmp_path / "run")
    ] == figures


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_best(
    used: Path, data: TrainingData, make_trainer: Callable[..., Trainer], progress: object
) -> None:
    trainer = make_trainer(used)
    with torch.no_grad():
        trainer.model.head_a.bias.fill_(math.nan)
    before = weights(used / "best")
    # The saved state is damaged by hand, for resuming loads its weights.
    state = load_file(used / "last" / "model.safetensors")
    state["head_a.bias"].fill_(math.nan)
    save_file(state, used / "last" / "model.safetensors")
    with pytest.raises(
        TrainingError,
        match=r"epoch 2, step 1: the loss is nan: .*best still holds the last good checkpoint",
    ):
        trainer.run(data, progress, silent, resume=True)
    assert weights(used / "best") == before
    assert len(history(used)) == 1


def test_manifests_without_a_decodable_image_end_the_run(
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    open_labelled: Callable[..., LabelledManifest],
) -> None:
    good = open_labelled(write_colours(tmp_path / "good.parquet", 1, 0))
    bad = open_labelled(write_colours(tmp_path / "bad.parquet", 1, 0, broken=tuple(range(6))))
    with pytest.raises(TrainingError, match=r"bad.parquet: not one image could be decoded"):
        make_trainer(tmp_path / "one").run(TrainingData(bad, good), progress, silent)
    with pytest.raises(TrainingError, match=r"bad.parquet: not one image could be decoded"):
        make_trainer(tmp_path / "two").run(TrainingData(good, bad), progress, silent)


def test_the_schedule_is_what_the_optimizer_follows(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path / "run", CONFIG)
    trainer.run(data, progress, silent)
    # 36 rows in batches of 8: 5 steps an epoch.
    assert [group["lr"] for group in trainer._optimization.adamw.param_groups] == [
        learning_rate_at(CONFIG, 14, 15)
    ] * 2


def test_a_run_leaves_these_files(used: Path) -> None:
    assert sorted(
        path.relative_to(used).as_posix() for path in used.rglob("*") if path.is_file()
    ) == [
        "best/README.md",
        "best/config.json",
        "best/model.safetensors",
        "best/tokenizer.json",
        "history.json",
        "last/adamw.safetensors",
        "last/model.safetensors",
        "last/state.json",
    ]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_umask_decides_who_can_read_the_files_of_a_run(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    umask: int,
    mode: int,
) -> None:
    before = os.umask(umask)
    try:
        make_trainer(tmp_path / "run", replace(CONFIG, epochs=1)).run(data, progress, silent)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").rglob("*")}
    assert {modes[path] for path in modes if path.is_file()} == {mode}
    assert {modes[path] for path in modes if path.is_dir()} == {0o777 & ~umask}


def test_history_and_state_hold_records_that_come_back(used: Path) -> None:
    values = json.loads((used / "last" / "state.json").read_text())
    state = TrainingState.from_json(values)
    assert state.to_json() == values
    assert [epoch.to_json() for epoch in state.history] == read_json(used / "history.json")
    assert state.identity.config == CONFIG


def test_a_run_of_an_earlier_version_is_resumed_with_defaults(
    used: Path, data: TrainingData, make_trainer: Callable[..., Trainer], progress: object
) -> None:
    file = used / "last" / "state.json"
    values = json.loads(file.read_text())
    del values["identity"]["config"]["max_gradient_norm"]
    del values["identity"]["without"]
    file.write_text(json.dumps(values))
    make_trainer(used).run(data, progress, silent, resume=True)
    assert len(history(used)) == CONFIG.epochs


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"identity": {}, "history": []}', '{"identity": 3}']
)
def test_a_damaged_state_is_refused(
    used: Path,
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    text: str,
) -> None:
    (used / "last" / "state.json").write_text(text)
    with pytest.raises(UsageError, match=r"state.json: not a state that this version") as refused:
        make_trainer(used).run(data, progress, silent, resume=True)
    assert "\n" not in str(refused.value)


def test_a_state_with_an_unknown_setting_is_refused(
    used: Path, data: TrainingData, make_trainer: Callable[..., Trainer], progress: object
) -> None:
    file = used / "last" / "state.json"
    values = json.loads(file.read_text())
    values["identity"]["config"]["momentum"] = 0.9
    file.write_text(json.dumps(values))
    with pytest.raises(UsageError, match=r"this version of aigid can resume .*momentum"):
        make_trainer(used).run(data, progress, silent, resume=True)


def test_a_damaged_optimizer_state_is_refused(
    used: Path, data: TrainingData, make_trainer: Callable[..., Trainer], progress: object
) -> None:
    (used / "last" / "adamw.safetensors").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"adamw.safetensors: damaged: "):
        make_trainer(used).run(data, progress, silent, resume=True)


def test_gradients_are_clipped_to_the_norm_that_is_set(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    for norm in (1.0, 1e-9, 1e9):
        config = replace(CONFIG, epochs=1, max_gradient_norm=norm)
        make_trainer(tmp_path / f"{norm:g}", config).run(data, progress, silent)
    clipped, unclipped = weights(tmp_path / "1e-09" / "last"), weights(tmp_path / "1e+09" / "last")
    assert weights(tmp_path / "1" / "last") not in (clipped, unclipped)
    # AdamW divides by the gradient's size plus 1e-8, so tiny gradients hardly move the weights.
    moved = load_file(tmp_path / "1e-09" / "last" / "model.safetensors")["fusion.weight"]
    started = make_trainer(tmp_path / "new").model.fusion.weight
    torch.testing.assert_close(moved, started.detach(), rtol=0, atol=2e-3)


def test_the_model_is_evaluated_without_dropout(
    tiny_model: FusionModel, data: TrainingData
) -> None:
    tiny_model.train()
    first, second = (score_manifest(tiny_model, data.validation, 6).logits.a for _ in range(2))
    assert torch.equal(first, second)


@pytest.fixture
def steady_info(tiny_info: CheckpointInfo) -> CheckpointInfo:
    """Return the tiny model without dropout: its steps depend on the rows alone."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return replace(tiny_info, text_config={**tiny_info.text_config, **still})


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last" / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    expected = final_weights(other)
    # Softmax cancels the keys' bias: its gradient is rounding, which AdamW scales up.
    for name, value in (
        (name, value) for name, value in final_weights(one).items() if not KEY_BIAS.search(name)
    ):
        torch.testing.assert_close(
            value,
            expected[name],
            rtol=1e-4,
            atol=2e-5,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize(
    "loss", [LossConfig(), LossConfig(class_balanced=True, label_smoothing=0.1)]
)
def test_gradient_accumulation_takes_the_same_steps(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    steady_info: CheckpointInfo,
    tmp_path: Path,
    loss: LossConfig,
) -> None:
    for steps in (1, 3):
        config = replace(CONFIG, gradient_accumulation_steps=steps, loss=loss)
        make_trainer(tmp_path / str(steps), config, steady_info).run(data, progress, silent)
    assert_same_weights(tmp_path / "3", tmp_path / "1")


@pytest.mark.parametrize("encoders", ["frozen", "lora"])
def test_partly_trained_encoders_are_saved_plain_and_resumed_exactly(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    encoders: str,
) -> None:
    config = replace(CONFIG, encoders=encoders, lora_rank=2)
    best = make_trainer(tmp_path / "whole", config).run(data, progress, silent)
    assert not [name for name in load_checkpoint(best).model.state_dict() if "lora" in name]
    with pytest.raises(KilledError):
        make_trainer(tmp_path / "cut", config).run(data, progress, kill_after(1))
    make_trainer(tmp_path / "cut", config).run(data, progress, silent, resume=True)
    assert weights(tmp_path / "cut" / "last") == weights(tmp_path / "whole" / "last")
    assert weights(tmp_path / "cut" / "best") == weights(best)


def test_mixed_precision_learns_too_and_keeps_full_precision_weights(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=12, learning_rate=1e-2, precision="bf16")
    best = make_trainer(tmp_path / "run", config).run(data, progress, silent)
    losses = [item["loss"] for item in history(tmp_path / "run")]
    assert losses[-1] < 0.3 * losses[0]
    assert {value.dtype for value in load_file(best / "model.safetensors").values()} == {
        torch.float32
    }


def test_paired_training_learns_and_is_resumed_exactly(
    data: TrainingData, make_trainer: Callable[..., Trainer], progress: object, tmp_path: Path
) -> None:
    config = replace(
        CONFIG,
        augmentation=Augmentation(blur=0.5, jpeg=0.5),
        loss=LossConfig(consistency=1.0),
        gradient_accumulation_steps=2,
    )
    make_trainer(tmp_path / "whole", config).run(data, progress, silent)
    losses = [item["loss"] for item in history(tmp_path / "whole")]
    assert losses[-1] < losses[0]
    with pytest.raises(KilledError):
        make_trainer(tmp_path / "cut", config).run(data, progress, kill_after(1))
    make_trainer(tmp_path / "cut", config).run(data, progress, silent, resume=True)
    assert weights(tmp_path / "cut" / "last") == weights(tmp_path / "whole" / "last")


def test_running_out_of_memory_names_what_to_change(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def greedy(self: FusionModel, image: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 60) + image.float().mean()

    monkeypatch.setattr(FusionModel, "image_features", greedy)
    with pytest.raises(
        TrainingError,
        match=r"step 1: out of memory on cpu: raise `gradient_accumulation_steps` \(now 1\)",
    ) as refused:
        make_trainer(tmp_path / "run").run(data, progress, silent)
    assert "lower `batch_rows` (now 8)" in str(refused.value)


def test_another_runtime_error_stays_as_it_is(
    data: TrainingData,
    make_trainer: Callable[..., Trainer],
    progress: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: FusionModel, image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(FusionModel, "image_features", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        make_trainer(tmp_path / "run").run(data, progress, silent)
