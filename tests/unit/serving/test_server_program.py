"""Where the server's program comes from, and the errors of its installation."""

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aigid.errors import ServerError, UsageError
from aigid.serving import (
    ServerConfig,
    ServerProgram,
    TritonServer,
    cache_folder,
    find_program,
    folder_to_install,
    prepare_server,
    server_program,
)
from aigid.serving.host_python import HostPython
from aigid.serving.server_folder import executable_of, finish_folder

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def no_message(line: str) -> None:
    raise AssertionError(line)


def no_progress(fraction: float) -> None:
    raise AssertionError(fraction)


def find(cache: Path, folder: Path | None = None) -> ServerProgram:
    """Find a program that needs no installation."""
    return find_program(cache, no_message, no_progress, folder=folder)


@pytest.fixture(autouse=True)
def bare_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH without a tritonserver."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def server_in(folder: Path, stub: str = "exit 1") -> Path:
    """Make the files of an installation that are used before a server starts."""
    server = executable_of(folder).parent.parent
    programs = {
        executable_of(folder): "exit 1",
        server / "python_backend_stubs" / RUNNING / "triton_python_backend_stub": stub,
    }
    for program, script in programs.items():
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    (server / "backends" / "python").mkdir(parents=True)
    finish_folder(folder, RUNNING)
    return folder


def test_a_server_on_the_path_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find(tmp_path / "cache")
    assert (found.executable, found.arguments) == (program, ())
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("/var/caches", "/var/caches/aigid"),
        ("", "~/.cache/aigid"),
        ("caches", "~/.cache/aigid"),
    ],
)
def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variable: str, folder: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert str(cache_folder()) == folder
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert str(cache_folder()) == "~/.cache/aigid"


def test_an_installation_has_a_message_before_and_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(
        folder: Path,
        python: HostPython,
        on_message: Callable[[str], None],
        on_progress: Callable[[float], None],
    ) -> None:
        on_progress(0.5)
        server_in(folder)

    monkeypatch.setattr(server_program, "install_server", install)
    told: list[str | float] = []
    found = find_program(tmp_path, told.append, told.append)
    folder = folder_to_install(tmp_path)
    assert found.executable == executable_of(folder)
    assert told == [
        f"no tritonserver on the PATH: installing NVIDIA's server from a wheel into {folder} "
        "(once; about 130 MB to download)",
        0.5,
    ]
    assert find(tmp_path) == found


def test_a_cache_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for cache, reason in (
        (tmp_path / "file", "File exists"),
        (tmp_path / "file" / "cache", "Not a directory"),
    ):
        with pytest.raises(ServerError) as caught:
            find_program(cache, lambda line: None)
        assert re.fullmatch(
            rf"{cache}/tritonserver-\S+: tritonserver cannot be installed there: {reason}: make "
            rf"{cache} a folder that you can write to, set XDG_CACHE_HOME to another, or install "
            "tritonserver yourself and put it on the PATH",
            str(caught.value),
        )


def test_a_host_that_the_wheel_is_not_for_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine, libc, shown in (
        ("arm64", ("glibc", "2.36"), "arm64, glibc 2.36"),
        ("x86_64", ("", ""), "x86_64, no glibc "),
        ("x86_64", ("glibc", "2.31"), "x86_64, glibc 2.31"),
    ):
        with monkeypatch.context() as patch, pytest.raises(ServerError) as caught:
            patch.setattr(platform, "machine", lambda machine=machine: machine)
            patch.setattr(platform, "libc_ver", lambda libc=libc: libc)
            find(tmp_path)
        assert f"this host has Linux on {shown}: use `engine` embedded" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_shared_library_that_is_missing_is_named(tmp_path: Path) -> None:
    reason = "error while loading shared libraries: libz.so.1: cannot open shared object"
    folder = server_in(tmp_path / "server", f"echo 'stub: {reason} file' >&2; exit 127")
    with pytest.raises(ServerError, match=r"this host has no shared library libz\.so\.1$"):
        find(tmp_path / "cache", folder)


def test_models_get_an_environment_of_their_own_with_this_aigid(tmp_path: Path) -> None:
    folder = server_in(tmp_path / "server")
    before = sorted(folder.rglob("*"))
    found = find(tmp_path / "cache", folder)
    assert found.arguments == (f"--backend-directory={folder / 'backends'}",)
    environment = Path(found.environment["PATH"].partition(os.pathsep)[0]).parent
    assert environment.is_relative_to(tmp_path / "cache")
    imported = environment / "lib" / f"python{RUNNING}" / "site-packages"
    assert (imported / "aigid" / "serving").samefile(Path(server_program.__file__).parent)
    assert (imported / "packages.pth").read_text() == f"{folder / 'packages'}\n"
    assert found.environment["LD_LIBRARY_PATH"].startswith(str(folder / "packages"))
    # Nothing is written to the server's folder, which may be read-only.
    assert sorted(folder.rglob("*")) == before
    assert find(tmp_path / "cache", folder) == found
    assert len(list((tmp_path / "cache" / "environments").iterdir())) == 1


def test_a_copy_of_a_prepared_folder_is_a_server_too(tmp_path: Path) -> None:
    folder = server_in(tmp_path / "server")
    copied = tmp_path / "another-host" / "copy"
    shutil.copytree(folder, copied)
    shutil.rmtree(folder)
    (copied / "packages" / "__pycache__").mkdir()
    (copied / "packages" / "__pycache__" / "compiled.pyc").write_text("as Python likes")
    found = find(tmp_path / "cache", copied)
    assert found.executable == executable_of(copied)
    assert str(folder) not in str(found)


@pytest.mark.parametrize("name", ["two words", "it's", "a&b", "$HOME", "a:b", "(x)", "ä"])
def test_a_path_that_triton_s_shell_takes_apart_is_refused(
    tmp_path: Path, tiny_repository: Path, name: str
) -> None:
    shutil.copytree(tiny_repository, tmp_path / name)
    for find_or_serve in (
        lambda: find(tmp_path / "cache", server_in(tmp_path / "servers" / name)),
        lambda: find(tmp_path / name),
        lambda: TritonServer(ServerConfig(tmp_path / name)),
    ):
        with pytest.raises(UsageError, match="starts no models from a path with blanks or such"):
            find_or_serve()


def make_empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def lose_a_file(folder: Path) -> None:
    (folder / "backends" / "onnxruntime" / "model.py").unlink()


def cut_a_file(folder: Path) -> None:
    executable_of(folder).write_text("#!")


def forget_permissions(folder: Path) -> None:
    executable_of(folder).chmod(0o644)


def change_marker(folder: Path, **values: str) -> None:
    marker = json.loads((folder / "server.json").read_text())
    (folder / "server.json").write_text(json.dumps(marker | values))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (shutil.rmtree, "no prepared server is there"),
        (make_empty, r"no prepared server is there \(no server.json\): name a folder that `aigid"),
        (lose_a_file, r"is not whole: it has [\d,]+ files with [\d,]+ bytes, not .*: copy it "),
        (cut_a_file, "is not whole"),
        (forget_permissions, "tritonserver may not be executed: copy the folder with its permiss"),
        (lambda folder: (folder / "server.json").write_text("{"), "its server.json is damaged"),
        (lambda folder: (folder / "server.json").write_text("{}"), "its server.json is damaged"),
        (lambda folder: (folder / "server.json").write_text("[1]"), "its server.json is damaged"),
        (
            lambda folder: change_marker(folder, requirements="0", tritonserver="2.60"),
            r"another version of aigid has prepared this folder \(tritonserver 2.60, other pack",
        ),
    ],
)
def test_a_folder_that_has_no_whole_server_is_refused_with_the_reason(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    folder = server_in(tmp_path / "server")
    damage(folder)
    with pytest.raises(UsageError, match=reason) as caught:
        find(tmp_path / "cache", folder)
    assert str(caught.value).startswith(f"`server` {folder}: ")


def test_a_folder_for_a_python_that_this_host_has_not_is_refused(tmp_path: Path) -> None:
    folder = server_in(tmp_path / "server")
    change_marker(folder, python="3.99")
    with pytest.raises(ServerError, match=r"runs models with Python 3\.99, and finds none here"):
        find(tmp_path / "cache", folder)


def test_a_whole_server_that_is_prepared_again_stays(tmp_path: Path) -> None:
    folder = server_in(tmp_path / "server")
    assert prepare_server(folder, no_message, no_progress).version == RUNNING
    lose_a_file(folder)
    with pytest.raises(UsageError, match=r"^`prepare` .* is not whole"):
        prepare_server(folder, no_message, no_progress)


def test_a_server_is_not_prepared_among_other_files_or_where_nothing_can_be_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "notes").write_text("")
    with pytest.raises(UsageError, match=f"`prepare` {tmp_path}: this folder has other files: "):
        prepare_server(tmp_path, no_message, no_progress)
    with pytest.raises(UsageError, match=r"notes/server: it cannot be written: File exists"):
        prepare_server(tmp_path / "notes" / "server", lambda line: None, no_progress)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
