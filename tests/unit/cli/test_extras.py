"""A base install: it scans, and names the extra of what it cannot do."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import run_without

from aigid.extras import install_command

Write = Callable[..., Path]
OPTIONAL = ("torch", "ray", "transformers", "sklearn", "matplotlib", "safetensors", "onnx")
OPTIONAL += ("onnxscript", "tritonclient", "grpc")
TRAIN = ("train", "m.parquet", "--validation", "m.parquet", "--out", "run")


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (TRAIN, "torch"),
        (TRAIN, "transformers"),
        (("evaluate", "m.parquet"), "torch"),
        (("evaluate", "m.parquet"), "sklearn"),
        (("audit", "m.parquet"), "sklearn"),
    ],
)
def test_a_command_without_its_extra_names_the_package_and_how_to_install_it(
    words: tuple[str, ...], package: str
) -> None:
    done = run_without((package,), *words)
    assert done.returncode == 2, done.stderr
    command = install_command("train")
    assert done.stderr == f"aigid: this command needs {package}: {command}\n"


def test_training_without_tensorboard_names_the_extra(tmp_path: Path) -> None:
    done = run_without(("tensorboard",), *TRAIN[:-1], tmp_path / "run")
    assert done.returncode == 2, done.stderr
    command = install_command("train")
    assert done.stderr == f"aigid: --report-to tensorboard needs tensorboard: {command}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "purpose", "extra"),
    [
        (("--triton", "localhost:8001"), "scoring on Triton servers needs tritonclient", "serve"),
        (("--ray", "local"), "scanning on a Ray cluster needs ray", "ray"),
    ],
)
def test_a_scan_without_an_extra_names_it(
    words: tuple[str, ...],
    purpose: str,
    extra: str,
    write_manifest: Write,
    tiny_repository: Path,
    tmp_path: Path,
) -> None:
    scan = ("scan", write_manifest(6), "--out", tmp_path / "out", "--model", tiny_repository)
    done = run_without(OPTIONAL, *scan, *words)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"aigid: {purpose}: {install_command(extra)}\n"


def test_a_missing_module_of_aigid_itself_is_no_missing_extra() -> None:
    done = run_without(("nothing",), "train", "--help")
    assert done.returncode == 0
    script = (
        "import sys; sys.modules['aigid.training.run'] = None\n"
        f"from aigid.cli.main import main; main({list(TRAIN)!r})"
    )
    command = [sys.executable, "-c", script]
    broken = subprocess.run(command, capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert "ModuleNotFoundError" in broken.stderr


def test_a_base_install_scans_and_loads_none_of_the_extras(
    write_manifest: Write, tiny_repository: Path, tmp_path: Path
) -> None:
    scan = ("scan", write_manifest(6), "--out", tmp_path / "out", "--model", tiny_repository)
    done = run_without(OPTIONAL, *scan, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scored"] == 6


def test_a_scan_loads_none_of_the_extras_where_they_are_installed(
    write_manifest: Write, tiny_repository: Path, tmp_path: Path
) -> None:
    scan = ("scan", write_manifest(6), "--out", tmp_path / "out", "--model", tiny_repository)
    words = [str(word) for word in (*scan, "--json")]
    script = (
        "import sys; from aigid.cli.main import main\n"
        f"main({words!r}, standalone_mode=False); print(*sys.modules)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    summary, modules = done.stdout.splitlines()
    assert json.loads(summary)["scored"] == 6
    assert set(modules.split()).isdisjoint(OPTIONAL)


def test_a_base_install_simulates(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sizes = ("--rows", 6, "--shorter-side", 32, "--workers", 1)
    done = run_without(OPTIONAL, "simulate", out, *sizes)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: 6 rows in 1 file\n"
    assert len(list(out.glob("*.parquet"))) == 1
