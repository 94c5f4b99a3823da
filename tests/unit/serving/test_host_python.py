"""Which Python the wheel's server runs models with, on hosts that have several or none."""

import os
import sys
from pathlib import Path

import pytest

from aigid.errors import ServerError
from aigid.serving.host_python import find_python

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def stand_in(folder: Path, name: str, version: str, libraries: str, installs: str) -> Path:
    """Write a program that says of itself what a Python would."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    answer = f'["{version}", "{program}", {libraries}, {installs}]'
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    return program


def test_this_python_is_asked_for_its_own_shared_library() -> None:
    found = find_python((RUNNING,), to_install=True)
    assert found.version == RUNNING
    assert found.executable == Path(sys.executable).resolve()
    if found.libraries:
        assert list(Path(found.libraries).glob(f"libpython{RUNNING}.so*"))


def test_another_python_on_the_path_is_taken_where_this_one_has_no_such_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path, "new", "3.14", '""', "true")))
    wanted = stand_in(tmp_path / "second", "python3.11", "3.11", '"/lib"', "true")
    # A shim of a version that is not installed, a folder, and a program that is no Python.
    first = tmp_path / "first"
    stand_in(first, "python3.11", "", "", "").write_text(
        "#!/bin/sh\necho not found >&2; exit 127\n"
    )
    (first / "python3.12").mkdir()
    (tmp_path / "second" / "python3.12").write_bytes(b"\x7fELF")
    (tmp_path / "second" / "python3.12").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(first), str(tmp_path / "second")]))
    found = find_python(("3.12", "3.11"))
    assert (found.executable, found.version, found.libraries) == (wanted, "3.11", "/lib")


def test_a_python_without_a_shared_library_or_without_pip_is_passed_over_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = stand_in(tmp_path, "running", "3.11", "null", "true")
    monkeypatch.setattr(sys, "executable", str(running))
    without_pip = stand_in(tmp_path / "path", "python3.12", "3.12", '""', "false")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_python().executable == without_pip
    with pytest.raises(ServerError) as caught:
        find_python(to_install=True)
    for reason in (
        "runs models with Python 3.11 or 3.12, and finds none here",
        f"{running} has no shared library libpython3.11.so.1.0 (on Debian and Ubuntu: apt ",
        f"{without_pip} has no venv and ensurepip (on Debian and Ubuntu: apt install python3.12-v",
        "install one, or use `engine` embedded, or put a tritonserver of your own on the PATH",
    ):
        assert reason in str(caught.value)


def test_a_host_without_any_is_told_which_one_this_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stand_in(tmp_path, "new", "3.14", '""', "true")))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match=rf"this is Python {RUNNING}, and none is on the PATH: "):
        find_python()
