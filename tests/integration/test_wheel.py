"""The wheel holds all that a scan needs, the demo model included, and nothing else."""

import json
import os
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.manifests import manifest_table

pytestmark = pytest.mark.integration

CLONE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=CLONE,
        check=True,
    )
    return next(folder.glob("aigid-*.whl"))


def test_it_scans_in_an_empty_folder_with_its_own_demo_model(wheel: Path, tmp_path: Path) -> None:
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)
    pq.write_table(manifest_table(8), empty / "manifest.parquet")
    where = "import aigid; print(aigid.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    imported = subprocess.run(
        [sys.executable, "-c", where], cwd=empty, env=environment, capture_output=True, text=True
    )
    assert Path(imported.stdout.strip()).is_relative_to(installed)
    command = [
        sys.executable,
        "-m",
        "aigid",
        "scan",
        "manifest.parquet",
        "--out",
        "results",
        "--json",
    ]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored"] == 8
    assert "not for real decisions" in done.stderr


def test_it_builds_a_model_and_scans_with_it(
    wheel: Path, tiny_repository: Path, tmp_path: Path
) -> None:
    """From a checkpoint to results, in an empty folder, without a checkout."""
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)
    pq.write_table(manifest_table(12), empty / "manifest.parquet")
    checkpoint = tiny_repository.parent / "checkpoint"
    # An untrained model: INT8 could change its decisions.
    words = ["build", str(checkpoint), "model/", "--precision", "fp32"]
    words += ["--calibration", "manifest.parquet", "--calibration-rows", "12"]
    words += ["--validation", "manifest.parquet"]
    scan = ["scan", "manifest.parquet", "--model", "model/", "--out", "results", "--json"]
    for arguments in (words, scan):
        done = subprocess.run(
            [sys.executable, "-m", "aigid", *arguments],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored"] == 12
    assert (empty / "model/bert/1/model.fp32.onnx").is_file()


def test_it_leaves_out_what_runs_from_a_checkout_and_needs_neither_torch_nor_ray(
    wheel: Path,
) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "aigid",
        f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "aigid/py.typed" in names
    metadata = message_from_string(
        zipfile.ZipFile(wheel)
        .read(next(name for name in names if name.endswith("METADATA")))
        .decode()
    )
    base = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert base
    assert not [line for line in base if line.startswith(("torch", "ray", "transformers", "onnx>"))]
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "train",
        "build",
        "tensorrt",
        "tensorrt-rtx",
        "evidence",
        "hash",
        "heif",
        "hub",
        "observe",
        "ray",
        "report",
        "serve",
        "bench",
        "dev",
    }
