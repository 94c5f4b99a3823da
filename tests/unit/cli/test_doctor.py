"""`aigid doctor`: its text, its JSON and its exit statuses."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.command_line import invoke, run_without

from aigid.contract import load_contract


def test_a_sound_host_has_status_0(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        result = invoke("doctor", "--model", tiny_repository)
        assert result.exit_code == 0, result.output
        text = " ".join(result.stdout.split())
        assert "ok model tiny, int8, loaded in" in text
        assert "labels: real, sd21, sdxl, sd3, dalle3, midjourney" in text
        assert load_contract(tiny_repository).fingerprint[:16] in text
        assert "hint notice tiny random model" in text
        assert "scans can run: 0 problems" in text
        assert max(map(len, result.stdout.splitlines())) <= width
    assert list(tmp_path.iterdir()) == []


def test_the_checks_as_json(tiny_repository: Path) -> None:
    found = json.loads(invoke("doctor", "--model", tiny_repository, "--json").stdout)
    assert found["problems"] == 0
    assert {check["state"] for check in found["checks"]} <= {"ok", "hint"}
    names = {check["name"] for check in found["checks"]}
    assert {"aigid", "python", "cpu", "memory", "gpu", "model", "triton", "stores"} <= names


@pytest.mark.parametrize("damage", ["gone", "no graph", "no contract", "no tokenizer", "garbage"])
def test_a_model_that_does_not_load_has_status_1_and_a_remedy(
    tiny_repository: Path, tmp_path: Path, damage: str
) -> None:
    model = tmp_path / "model"
    if damage != "gone":
        shutil.copytree(tiny_repository, model)
    if damage == "no graph":
        shutil.rmtree(model / "bert")
    elif damage == "no contract":
        (model / "contract.json").unlink()
    elif damage == "no tokenizer":
        (model / "tokenizer.json").unlink()
    elif damage == "garbage":
        for graph in model.glob("clip_vision/*/model.int8.onnx"):
            graph.write_bytes(b"not a graph")
    result = invoke("doctor", "--model", model)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("problem"))
    assert line.split()[:2] == ["problem", "model"]
    assert "Name a model repository with --model" in " ".join(result.stdout.split())
    assert lines[-1].startswith("a problem stops scans: 1 problem")


def test_a_bad_proxy_and_no_temporary_folder_are_problems(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:pa55word@proxy:1")
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    result = invoke("doctor", "--model", tiny_repository)
    assert result.exit_code == 1
    assert "a problem stops scans: 2 problems" in result.stdout
    assert "pa55word" not in result.output


def test_a_base_install_can_be_looked_at() -> None:
    done = run_without(("torch", "ray", "tritonclient"), "doctor")
    assert done.returncode == 0, done.stderr
    assert "scans can run" in done.stdout


def test_an_install_without_a_required_package_is_told() -> None:
    for name in ("onnxruntime", "pyarrow", "numpy"):
        done = run_without((name,), "doctor")
        assert done.returncode == 1, done.stderr
        assert f"problem  {name}" in done.stdout
        assert "Install the required packages first" in done.stdout


def test_the_doctor_imports_no_torch_and_opens_no_connection(tiny_repository: Path) -> None:
    script = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"{event}: {arguments}")
sys.addaudithook(refuse)
from aigid.cli.main import main
try:
    main(["doctor", "--model", sys.argv[1]], standalone_mode=False)
finally:
    print("torch" in sys.modules, "ray" in sys.modules)
"""
    command = [sys.executable, "-c", script, str(tiny_repository)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False False"
