import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aigid.errors import ServerError
from aigid.serving import server_program
from aigid.serving.server_program import find_program


def nothing(line: str) -> None:
    raise AssertionError(line)


def test_a_server_on_the_path_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        return subprocess.CompletedProcess(
            command, int(failed), "", "Looking\nERROR: no network\n" if failed else ""
        )

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_program.subprocess, "run", without_network)
    said: list[str] = []
    with pytest.raises(
        ServerError,
        match=r"pip install \.\.\.: failed: ERROR: no network; install tritonserver and put it on",
    ):
        find_program(tmp_path / "cache", said.append)
    assert "installing NVIDIA's from a wheel" in said[0]
    assert not list((tmp_path / "cache").iterdir())


def installed(cache: Path, stub: str) -> Path:
    """What an installation leaves, as far as it is looked at before a server starts."""
    folder = cache / f"tritonserver-2.51-python{sys.version_info.major}.{sys.version_info.minor}"
    program = folder / "backends" / "python" / "triton_python_backend_stub"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{stub}\n")
    program.chmod(0o755)
    return folder


def test_a_shared_library_that_is_missing_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
    said = f"stub: error while loading shared libraries: {python}.so.1.0: cannot open shared object file"
    installed(tmp_path, f"echo '{said}' >&2; exit 127")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(
        ServerError,
        match=rf"needs the shared library {python}\.so\.1\.0, .*: apt install {python}$",
    ):
        find_program(tmp_path, nothing)


def test_what_is_installed_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = installed(tmp_path, "exit 1")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    found = find_program(tmp_path, nothing)
    assert found.executable.is_relative_to(folder / "environment")
    assert found.arguments == (f"--backend-directory={folder / 'backends'}",)
    assert found.environment["PATH"].startswith(str(folder / "environment" / "bin"))
