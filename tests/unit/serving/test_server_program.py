import subprocess
from pathlib import Path
from typing import Any

import pytest

from aigid.errors import ServerError
from aigid.serving import server_program
from aigid.serving.server_program import find_program


def nothing(line: str) -> None:
    raise AssertionError(line)


def test_a_server_on_the_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_program(tmp_path / "cache", nothing)
    assert (found.executable, found.arguments) == (program, ())
    assert not (tmp_path / "cache").exists()


def test_an_installation_that_fails_is_said_with_its_reason_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_network(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        failed = "pip" in command
        return subprocess.CompletedProcess(command, int(failed), "", "Looking\nERROR: no network\n" if failed else "")

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_program.subprocess, "run", without_network)
    said: list[str] = []
    with pytest.raises(ServerError, match=r"pip install \.\.\.: failed: ERROR: no network; install tritonserver and put it on"):
        find_program(tmp_path / "cache", said.append)
    assert "installing NVIDIA's from a wheel" in said[0]
    assert not list((tmp_path / "cache").iterdir())
