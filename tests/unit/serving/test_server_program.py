"""Where the server's program comes from, and the errors of its installation."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aigid.errors import ServerError
from aigid.serving import find_program, server_program


def no_message(line: str) -> None:
    raise AssertionError(line)


def test_a_server_on_the_path_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_program(tmp_path / "cache", no_message)
    assert (found.executable, found.arguments) == (program, ())
    assert not (tmp_path / "cache").exists()


def test_an_installation_that_fails_gives_the_reason_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_network(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        failed = "pip" in command
        return subprocess.CompletedProcess(
            command, int(failed), "", "Looking\nERROR: no network\n" if failed else ""
        )

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(server_program.subprocess, "run", without_network)
    messages: list[str] = []
    reason = r"pip install \.\.\. failed: ERROR: no network; install tritonserver yourself and put"
    with pytest.raises(ServerError, match=reason):
        find_program(tmp_path / "cache", messages.append)
    assert "installing NVIDIA's from a wheel" in messages[0]
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_written_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(**options: Any) -> str:
        raise OSError(30, "Read-only file system")

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    for cache, reason in (
        (tmp_path / "file", "File exists"),
        (tmp_path / "file" / "cache", "Not a directory"),
        (tmp_path / "cache", "Read-only file system"),
    ):
        with pytest.raises(ServerError) as caught, monkeypatch.context() as patch:
            if "Read-only" in reason:
                patch.setattr(server_program.tempfile, "mkdtemp", read_only)
            find_program(cache, lambda line: None)
        assert re.fullmatch(
            rf"{cache}/tritonserver-\S+: tritonserver cannot be installed there: {reason}: make "
            rf"{cache} a folder that you can write to, or install tritonserver yourself and put it "
            "on the PATH",
            str(caught.value),
        )


def test_an_installed_server_that_cannot_be_linked_to_this_aigid_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installed(tmp_path, "exit 1")
    (folder / "packages").write_text("")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ServerError, match="cannot be installed there: .*: make .* a folder that"):
        find_program(tmp_path, no_message)


def test_an_installation_that_another_process_has_finished_first_is_used(tmp_path: Path) -> None:
    folder, temporary = installed(tmp_path, "exit 1"), tmp_path / "temporary"
    temporary.mkdir()
    server_program._rename_unless_there(temporary, folder)
    assert (folder / "backends").is_dir()
    with pytest.raises(OSError, match="No such file"):
        server_program._rename_unless_there(temporary, tmp_path / "gone" / "folder")


def installed(cache: Path, stub: str) -> Path:
    """Make the files of an installation that are used before a server starts."""
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
    reason = f"error while loading shared libraries: {python}.so.1.0: cannot open shared object"
    installed(tmp_path, f"echo 'stub: {reason} file' >&2; exit 127")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    message = rf"this host has no shared library {python}\.so\.1\.0: .*: apt install {python}$"
    with pytest.raises(ServerError, match=message):
        find_program(tmp_path, no_message)


def test_an_installed_server_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = installed(tmp_path, "exit 1")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    found = find_program(tmp_path, no_message)
    assert found.executable.is_relative_to(folder / "environment")
    assert found.arguments == (f"--backend-directory={folder / 'backends'}",)
    assert found.environment["PATH"].startswith(str(folder / "environment" / "bin"))
