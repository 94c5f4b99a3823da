"""What `aigid calibrate` and `aigid adapt` print, on a tiny model."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import invoke
from support.manifests import manifest_table

from aigid.contract import load_contract

WriteManifest = Callable[..., Path]


@pytest.fixture
def model(tiny_repository: Path, tmp_path: Path) -> Path:
    """A tiny model repository of one's own."""
    return Path(shutil.copytree(tiny_repository, tmp_path / "model"))


def test_calibrate_prints_what_was_fitted_and_what_was_not(
    model: Path, write_manifest: WriteManifest
) -> None:
    for part in ("bert", "clip_vision", "fusion_heads"):
        (model / part / "1" / "model.plan").write_bytes(b"compiled")
    result = invoke("calibrate", model, write_manifest(420), "--max-fpr", "0.2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{model}: model tiny, version 2, fingerprint ")
    assert lines[1].startswith(
        "labels from Label_A (1 is AI-generated) and Label_B: real 70, sd21 "
    )
    assert [line.split(":")[0] for line in lines[2:]] == [
        "temperature of head A",
        "temperature of head B",
        "fitted on the int8 scores of manifest.parquet",
        "--max-fpr 0.05",
        "--max-fpr 0.2",
        "miss rate 0.01",
        "source other",
        *["not fitted"] * 3,
        "the heads of the new version have no TensorRT engine yet",
    ]
    assert "needs 299 real rows: got 70" in result.stdout
    assert "a miss rate of 0.001 needs 2,995 AI-generated rows: got 350" in result.stdout
    again = invoke("calibrate", model, write_manifest(420)).stdout
    assert again.count("as before") == 2
    assert "--max-fpr 0.2: " in again
    binary = manifest_table(60).drop_columns(["Label_B"])
    last = invoke("calibrate", model, write_manifest(binary)).stdout
    assert "not fitted: a false-positive rate of 0.2 needs 14 real rows: got 10" in last
    assert "no source is other any more" in last
    assert load_contract(model).version == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--max-fpr", "0.001"), "--max-fpr 0.001: needs 2,995 real rows: "),
        (("--max-fpr", "1"), "--max-fpr must be between 0 and 1: got 1"),
        (("--labels", "real"), "--labels: labels must be at least two different names"),
    ],
)
def test_what_calibrate_refuses_names_the_option(
    options: tuple[str, str], said: str, model: Path, write_manifest: WriteManifest
) -> None:
    result = invoke("calibrate", model, write_manifest(30), *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert load_contract(model).version == 1


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    for words in (("calibrate", tmp_path, "m"), ("adapt", tmp_path, "m", "--out", "x")):
        result = invoke(*words)
        assert result.exit_code == 2
        assert f"MODEL {tmp_path}: not a model repository" in result.stderr


def test_adapt_prints_cross_validated_figures_beside_the_constant_answer(
    model: Path, write_manifest: WriteManifest, tmp_path: Path
) -> None:
    result = invoke("adapt", model, write_manifest(48), "--out", tmp_path / "new", "--name", "mine")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'new'}: model mine, version 1, fingerprint ")
    assert lines[1].startswith(
        "labels from Label_A (1 is AI-generated) and Label_B: real 8, sd21 8"
    )
    assert lines[2] == "cross-validated on 48 rows, with 95 % intervals:"
    assert lines[3].startswith("  A balanced accuracy 0.")
    assert " to " in lines[3]
    assert lines[3].endswith("; a constant answer has 0.500")
    assert [line.split(" 0.")[0] for line in lines[4:6]] == ["  A macro-F1", "  B macro-F1"]
    assert "needs 59 real rows: got 8" in result.stdout
    assert lines[-1].startswith("few rows give wide intervals")
