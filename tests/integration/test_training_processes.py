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
# Softmax cancels the keys' bias: its gradient is rounding, which AdamW scales up.
KEY_BIAS = re.compile(r"(k_proj|key)\.bias$")


def write_rows(path: Path, labels: list[int], broken: int) -> Path:
    images = [b"broken" if row == broken else encoded_image(row) for row in range(len(labels))]
    columns = {
        "image": images,
        "prompt": [f"image {row}" for row in range(len(labels))],
        "Label_B": labels,
    }
    pq.write_table(
        pa.table({**columns, "Label_A": [int(label > 0) for label in labels]}),
        path,
        row_group_size=10,
    )
    return path


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Return the command without --out."""
    for name, config in {"text": TEXT, "image": IMAGE}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    # Batches of 8: the last one of validation has one row, so one of two processes has none.
    train = write_rows(tmp_path / "train.parquet", [*range(6)] * 8, broken=4)
    validation = write_rows(
        tmp_path / "validation.parquet", [*([*range(6)] * 2), 0, 1, 2, 3, 4], broken=7
    )
    options = [
        "--text-encoder",
        tmp_path / "text.json",
        "--image-encoder",
        tmp_path / "image.json",
        "--fusion-hidden",
        12,
    ]
    options += [
        "--tokenizer",
        REPOSITORY / "tokenizer.json",
        "--epochs",
        2,
        "--batch-size",
        8,
        "--learning-rate",
        3e-3,
    ]
    options += ["--augment", "blur=0", "--oversample-real", 2, "--class-balanced"]
    return [
        "-m",
        "aigid",
        "train",
        str(train),
        "--validation",
        str(validation),
        *map(str, options),
    ]


def run(*words: str) -> str:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def read_events(folder: Path) -> dict[str, list[float]]:
    """Return what a run reported to TensorBoard, by name; it must have left one file."""
    [file] = (folder / "logs" / "aigid").iterdir()
    events = EventAccumulator(str(file))
    events.Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_two_processes_take_the_steps_of_one(words: list[str], tmp_path: Path) -> None:
    # accelerate launch starts this where there are several GPUs; on CPUs it needs MPI instead.
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    one, two = tmp_path / "one", tmp_path / "two"
    run(*words, "--out", str(one))
    log = run(*launch, *words, "--out", str(two))
    assert log.count("epoch 1: loss") == 1
    assert log.count("best checkpoint: ") == 1
    histories = [json.loads((folder / "history.json").read_text()) for folder in (one, two)]
    for single, both in zip(*histories, strict=True):
        assert (single["processes"], both["processes"]) == (1, 2)
        assert both["loss"] == pytest.approx(single["loss"], rel=1e-4)
        assert both["validation_loss"] == pytest.approx(single["validation_loss"], rel=1e-4)
        assert both["macro_f1_b"] == pytest.approx(single["macro_f1_b"])
    reported = read_events(one)
    # 56 rows an epoch with the real ones twice, in batches of 8.
    assert len(reported["train/loss"]) == 14
    for name, values in read_events(two).items():
        assert values == pytest.approx(reported[name], rel=1e-3), name
    expected = load_file(one / "last" / "model.safetensors")
    for name, value in load_file(two / "last" / "model.safetensors").items():
        if not KEY_BIAS.search(name):
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=5e-5)
