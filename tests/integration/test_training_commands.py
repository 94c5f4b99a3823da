"""From nothing to a scan with a model of one's own, with the commands that a user types."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.manifests import REPOSITORY
from support.scan_results import result_rows, summary_of

from aigid.cli.main import main

pytestmark = pytest.mark.integration

CLONE = Path(__file__).parents[2]
TOKENIZER = REPOSITORY / "tokenizer.json"
WIDTH = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 64, **WIDTH}
IMAGE = {"model_type": "clip_vision_model", "image_size": 64, "patch_size": 16, **WIDTH}
# One thread: with more, so small a network is slower, and its sums depend on their number.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=CLONE,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(*words: object) -> tuple[str, str]:
    """Run a command that must succeed; return its stdout and stderr."""
    process = start(*words)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    return output, errors


def aigid(*words: object) -> tuple[str, str]:
    return run("-m", "aigid", *words)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the simulated splits `train` and `validation` and encoder configs."""
    folder = tmp_path_factory.mktemp("trained")
    for split, rows in {"train": 120, "validation": 60}.items():
        output, _ = aigid(
            "simulate",
            folder / split,
            "--rows",
            rows,
            "--split",
            split,
            "--seed",
            3,
            "--shorter-side",
            64,
        )
        assert output == f"{folder / split}: {rows} rows in 1 file\n"
    (folder / "text.json").write_text(json.dumps(TEXT))
    (folder / "image.json").write_text(json.dumps(IMAGE))
    return folder


def train_words(data: Path, out: str) -> list[object]:
    words: list[object] = [
        "-m",
        "aigid",
        "train",
        data / "train",
        "--validation",
        data / "validation",
        "--out",
        data / out,
    ]
    words += [
        "--text-encoder",
        data / "text.json",
        "--image-encoder",
        data / "image.json",
        "--tokenizer",
        TOKENIZER,
    ]
    words += [
        "--fusion-hidden",
        16,
        "--epochs",
        2,
        "--batch-size",
        4,
        "--learning-rate",
        1e-3,
        "--schedule",
        "one_cycle",
    ]
    return [
        *words,
        "--oversample-real",
        2,
        "--seed",
        4,
        "--name",
        "my-model",
        "--notice",
        "trained for a test",
    ]


@pytest.fixture(scope="module")
def checkpoint(data: Path) -> Path:
    """Return the best checkpoint of an uninterrupted run."""
    output, log = run(*train_words(data, "whole"))
    assert output == f"best checkpoint: {data / 'whole' / 'best'}\n"
    assert [line.split(":")[0] for line in log.splitlines() if line.startswith("epoch ")] == [
        "epoch 1",
        "epoch 2",
    ]
    return data / "whole" / "best"


@pytest.fixture(scope="module")
def repository(data: Path, checkpoint: Path) -> Path:
    rows = ("--calibration", data / "validation", "--calibration-rows", 40)
    rows += ("--validation", data / "validation", "--parity-rows", 60)
    output, _ = run("build/pipeline.py", checkpoint, data / "model", *rows)
    assert "model my-model, version 1, fingerprint" in output
    assert "# Parity of my-model" in output
    return data / "model"


@pytest.fixture(scope="module")
def evaluated(data: Path, checkpoint: Path, repository: Path) -> dict[str, str]:
    """Return what `evaluate` prints for the checkpoint and for the built model, by option."""
    return {
        option: aigid(
            "evaluate", data / "validation", option, model, "--out", data / f"evaluation{option}"
        )[0]
        for option, model in {"--checkpoint": checkpoint, "--model": repository}.items()
    }


def metrics_of(data: Path, option: str) -> dict[str, Any]:
    return dict(json.loads((data / f"evaluation{option}" / "metrics.json").read_text()))


def epochs_of(folder: Path) -> list[dict[str, object]]:
    history = json.loads((folder / "history.json").read_text())
    return [{key: value for key, value in item.items() if key != "seconds"} for item in history]


def table_rows(output: str) -> dict[str, list[str]]:
    """Return the lines of the printed tables: the first cell, and the other cells."""
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in output.splitlines()
        if line.startswith("│")
    ]
    return {first: rest for first, *rest in lines}


def test_simulated_manifests_are_in_the_data_set_s_schema(data: Path) -> None:
    for split, rows in {"train": 120, "validation": 60}.items():
        table = pq.read_table(data / split)
        assert table.column_names == ["Caption", "Image", "Label_A", "Label_B"]
        labels = table["Label_B"].to_pylist()
        assert [labels.count(label) for label in range(6)] == [rows // 6] * 6


def test_a_run_leaves_the_best_checkpoint_its_state_its_history_and_its_events(
    checkpoint: Path,
) -> None:
    names = {
        path.relative_to(checkpoint.parent).as_posix()
        for path in checkpoint.parent.rglob("*")
        if path.is_file()
    }
    [events] = [name for name in names if name.startswith("logs/")]
    assert events.startswith("logs/my-model/events.out.tfevents.")
    names.remove(events)
    files = ("README.md", "config.json", "model.safetensors", "tokenizer.json")
    best = {f"best/{name}" for name in files}
    assert names == best | {
        f"last/{name}" for name in ("adamw.safetensors", "model.safetensors", "state.json")
    } | {"history.json"}
    assert [item["epoch"] for item in epochs_of(checkpoint.parent)] == [1, 2]


def test_a_run_killed_in_its_second_epoch_and_resumed_ends_like_one_that_was_not(
    data: Path, checkpoint: Path
) -> None:
    folder, words = data / "killed", train_words(data, "killed")
    process = start(*words)
    deadline = time.monotonic() + 120
    while not (folder / "last" / "state.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert len(epochs_of(folder)) == 1

    refused = CliRunner().invoke(main, [str(word) for word in words[2:]])
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == (
        f"aigid: {folder}: holds a training run: set --resume to continue it, or choose another "
        "--out"
    )

    output, log = run(*words, "--resume")
    assert output == f"best checkpoint: {folder / 'best'}\n"
    assert [line.split(":")[0] for line in log.splitlines() if line.startswith("epoch ")] == [
        "epoch 2"
    ]
    assert epochs_of(folder) == epochs_of(checkpoint.parent)
    for name in ("best/model.safetensors", "last/model.safetensors", "last/adamw.safetensors"):
        assert (folder / name).read_bytes() == (checkpoint.parent / name).read_bytes(), name


def test_checkpoint_and_built_model_are_evaluated_against_a_constant_answer(
    data: Path, evaluated: dict[str, str]
) -> None:
    found = {option: metrics_of(data, option) for option in evaluated}
    for option, output in evaluated.items():
        assert output.splitlines()[-1] == f"written to {data / f'evaluation{option}'}"
        for name in ("confusion", "reliability", "roc", "scores"):
            plot = data / f"evaluation{option}" / f"{name}.png"
            assert plot.read_bytes().startswith(b"\x89PNG")
        metrics, shown = found[option], table_rows(output)
        assert (metrics["model"], metrics["rows"], metrics["undecodable"]) == ("my-model", 60, 0)
        assert shown["A binary_f1"][::2] == [f"{metrics['a']['binary_f1']:.4f}", "0.9091"]
        for task, name in (("a", "accuracy"), ("b", "accuracy"), ("b", "macro_f1")):
            interval = metrics[task]["intervals"].get(name)
            assert shown[f"{task.upper()} {name}"] == [
                f"{metrics[task][name]:.4f}",
                "{:.4f} to {:.4f}".format(*interval) if interval else "-",
                f"{metrics['constant'][task][name]:.4f}",
            ]
        # Ten real rows cannot show a false-positive rate of 1 %.
        tpr = metrics["a"]["tpr_at_fpr_0.01"]
        assert shown["A tpr_at_fpr_0.01"] == [f"{tpr:.4f}", "needs 299 real rows", "-"]
    one, other = found.values()
    assert (one["graphs"], other["graphs"]) == ("torch fp32", "int8")
    assert one["data"] == other["data"] == "validation"
    assert other["a"]["auroc"] == pytest.approx(one["a"]["auroc"], abs=0.05)


def test_a_scan_agrees_with_the_evaluation(
    data: Path, repository: Path, evaluated: dict[str, str]
) -> None:
    words = ["--model", repository, "--out", data / "results", "--keep", "Label_B"]
    _, log = aigid("scan", data / "validation", *words)
    assert "trained for a test" in log
    rows = result_rows(data / "results")
    assert [row["Label_B"] for row in rows] == pq.read_table(data / "validation")[
        "Label_B"
    ].to_pylist()
    assert all(row["error"] is None and 0 <= row["p_ai"] <= 1 for row in rows)
    assert summary_of(data / "results")["scored"] == 60
    right = sum(row["is_ai"] == (row["Label_B"] > 0) for row in rows)
    assert right / 60 == pytest.approx(metrics_of(data, "--model")["a"]["accuracy"])


def test_a_round_of_self_training_labels_a_pool_and_trains_afresh_on_both(data: Path) -> None:
    pool = pq.read_table(data / "validation")
    pq.write_table(pool.slice(0, 24), data / "pool.parquet")
    words = train_words(data, "self")[3:]
    words += [
        "--unlabelled",
        data / "pool.parquet",
        "--min-confidence-a",
        0.5,
        "--min-confidence-b",
        0,
        "--epochs",
        1,
    ]
    output, log = run("build/self_training.py", *words)
    folder = data / "self"
    assert f"best checkpoint: {folder / 'round-1' / 'best'}" in output
    assert f"{folder / 'round-0' / 'pseudo'}: 24 of 24 pairs labelled, " in output
    assert log.count("epoch 1: ") == 2
    trained = [
        json.loads((folder / f"round-{number}" / "last" / "state.json").read_text())
        for number in (0, 1)
    ]
    # The second round has one more file, of pseudo-labels.
    assert [len(state["identity"]["train"]) for state in trained] == [1, 2]
    before = (folder / "round-1" / "best" / "model.safetensors").stat().st_mtime_ns
    again, log = run("build/self_training.py", *words)
    assert (again, log.count("epoch ")) == (output, 0)
    assert (folder / "round-1" / "best" / "model.safetensors").stat().st_mtime_ns == before
