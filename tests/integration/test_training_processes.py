"""A training run distributed by accelerate takes the same steps as one process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from support.manifests import REPOSITORY, encoded_image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.integration

WIDTH = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
# Without dropout, whose draws differ between processes.
TEXT = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    **WIDTH,
}
IMAGE = {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8, **WIDTH}
# Its head holds a layer that it never calls.
SIGLIP = {**IMAGE, "model_type": "siglip_vision_model"}
SCRIPTS = Path(sys.executable).parent
# The commands of the documents, each with two processes. Where there are several GPUs, accelerate
# needs no --multi_gpu; on CPUs alone it would start one process without it.
LAUNCHERS = {
    "torchrun": (SCRIPTS / "torchrun", "--standalone", "--nproc-per-node", "2"),
    "accelerate launch": (
        *(SCRIPTS / "accelerate", "launch", "--multi_gpu", "--num_processes", "2"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--main_process_port", "0"),
    ),
}
# Softmax cancels the keys' bias: its gradient is rounding, which AdamW scales up.
KEY_BIAS = re.compile(r"(k_proj|key)\.(base_layer\.)?bias$")


def write_rows(path: Path, labels: list[int], broken: int) -> Path:
    images = [b"broken" if row == broken else encoded_image(row) for row in range(len(labels))]
    # The generator of every ninth row is unknown, if it has one.
    generators = [None if row % 9 == 1 else label for row, label in enumerate(labels)]
    columns = {
        "image": images,
        "prompt": [f"image {row}" for row in range(len(labels))],
        "Label_B": pa.array(generators, pa.int32()),
    }
    pq.write_table(
        pa.table({**columns, "Label_A": [int(label > 0) for label in labels]}),
        path,
        row_group_size=10,
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of manifests and of encoders' configs."""
    folder = tmp_path_factory.mktemp("processes")
    for name, config in {"text": TEXT, "image": IMAGE, "siglip": SIGLIP}.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    # Batches of 8: the last one of validation has one row, so one of two processes has none.
    write_rows(folder / "train.parquet", [*range(6)] * 8, broken=4)
    write_rows(folder / "validation.parquet", [*([*range(6)] * 2), 0, 1, 2, 3, 4], broken=7)
    return folder


def train(folder: Path, out: str, *options: object, launcher: tuple[object, ...] = ()) -> str:
    """Train in the folder `out` below `folder`, and return what was printed."""
    words = [
        *("-m", "aigid", "train", folder / "train.parquet"),
        *("--validation", folder / "validation.parquet", "--out", folder / out),
        *("--text-encoder", folder / "text.json", "--image-encoder", folder / "image.json"),
        *("--tokenizer", REPOSITORY / "tokenizer.json", "--fusion-hidden", 12),
        *("--epochs", 2, "--batch-size", 8, "--learning-rate", 3e-3),
        *("--augment", "blur=0", "--oversample-real", 2, "--class-balanced"),
    ]
    command = [*(launcher or (sys.executable,)), *words, *options]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def read_events(folder: Path) -> dict[str, list[float]]:
    """Return what a run reported to TensorBoard, by name; it must have left one file."""
    [file] = (folder / "logs" / "aigid").iterdir()
    events = EventAccumulator(str(file))
    events.Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_same_run(one: Path, two: Path) -> None:
    """Check that a run of two processes took the steps of a run of one."""
    histories = [json.loads((folder / "history.json").read_text()) for folder in (one, two)]
    for single, both in zip(*histories, strict=True):
        assert (single["processes"], both["processes"]) == (1, 2)
        assert both["loss"] == pytest.approx(single["loss"], rel=1e-4)
        assert both["validation_loss"] == pytest.approx(single["validation_loss"], rel=1e-4)
        assert both["macro_f1_b"] == pytest.approx(single["macro_f1_b"])
    expected = load_file(one / "last" / "model.safetensors")
    for name, value in load_file(two / "last" / "model.safetensors").items():
        if not KEY_BIAS.search(name):
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=5e-5)


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    """Return the folder of a run of one process."""
    train(folder, "one")
    return folder / "one"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_take_the_steps_of_one(launcher: str, one: Path, folder: Path) -> None:
    two = folder / launcher
    log = train(folder, two.name, launcher=LAUNCHERS[launcher])
    assert log.count("epoch 1: loss") == 1
    assert log.count("training: 6 rows are AI-generated by an unknown generator") == 1
    assert log.count("best checkpoint: ") == 1
    assert_same_run(one, two)
    reported = read_events(one)
    # 56 rows an epoch with the real ones twice, in batches of 8.
    assert len(reported["train/loss"]) == 14
    for name, values in read_events(two).items():
        assert values == pytest.approx(reported[name], rel=1e-3), name


def test_two_processes_train_the_low_rank_additions_of_siglip(folder: Path) -> None:
    siglip = ("--image-encoder", folder / "siglip.json", "--encoders", "lora", "--epochs", 1)
    train(folder, "siglip-one", *siglip)
    train(folder, "siglip-two", *siglip, launcher=LAUNCHERS["torchrun"])
    assert_same_run(folder / "siglip-one", folder / "siglip-two")


def test_two_processes_make_the_features_of_frozen_encoders_together(folder: Path) -> None:
    frozen = ("--encoders", "frozen", "--epochs", 1)
    train(folder, "frozen-one", *frozen)
    train(folder, "frozen-two", *frozen, launcher=LAUNCHERS["torchrun"])
    assert_same_run(folder / "frozen-one", folder / "frozen-two")
    names = [
        sorted(path.name for path in (folder / run / "features").iterdir())
        for run in ("frozen-one", "frozen-two")
    ]
    # A file for training and one for validation, which either run could have made.
    assert names[0] == names[1]
    assert len(names[0]) == 2
