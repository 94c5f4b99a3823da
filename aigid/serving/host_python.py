"""Find a Python on this host that the wheel's server can run models with."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aigid.errors import ServerError

# The wheel has programs that run models for other versions too. But models need numpy 1, which has
# no wheels for Python 3.13: pip would compile it for minutes. And aigid itself needs Python 3.11.
PYTHONS = ("3.12", "3.11")

# What a Python says of itself. It loads its own shared library: the program that runs models does.
_PROBE = """\
import ctypes, importlib.util, json, os, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
library = "libpython%s.so.1.0" % version
folders = [sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib"), ""]
found = None
for folder in folders:
    try:
        ctypes.CDLL(os.path.join(folder, library))
    except OSError:
        continue
    found = folder
    break
can_install = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
executable = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
print(json.dumps([version, executable, found, can_install]))
"""
_PROBE_S = 60


@dataclass(frozen=True)
class HostPython:
    """A Python of this host: its program, its version (as "3.11"), its shared library's folder.

    The folder is "" where the system finds the library by itself.
    """

    executable: Path
    version: str
    libraries: str


def find_python(versions: Sequence[str] = PYTHONS, *, to_install: bool = False) -> HostPython:
    """Return this Python if it has one of the versions, or else one that is on the PATH.

    It has a shared library; with `to_install` also the modules that make an environment with pip.
    Raises ServerError with what each lacks.
    """
    lacking: dict[str, None] = {}
    for executable in _candidates(versions):
        found = _probe(executable)
        if found is None or found[0] not in versions:
            continue
        version, program, libraries, can_install = found
        if libraries is None:
            library = f"libpython{version}"
            lacking[
                f"{program} has no shared library {library}.so.1.0 (on Debian and Ubuntu: apt "
                f"install {library})"
            ] = None
        elif to_install and not can_install:
            lacking[
                f"{program} has no venv and ensurepip (on Debian and Ubuntu: apt install "
                f"python{version}-venv)"
            ] = None
        else:
            return HostPython(Path(program), version, libraries)
    raise ServerError(_nothing_found(versions, list(lacking)))


def _nothing_found(versions: Sequence[str], lacking: list[str]) -> str:
    wanted = " or ".join(sorted(versions))
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    why = "; ".join(lacking) or f"this is Python {running}, and none is on the PATH"
    return (
        f"the wheel's tritonserver runs models with Python {wanted}, and finds none here: {why}: "
        "install one, or use `engine` embedded, or put a tritonserver of your own on the PATH"
    )


def _candidates(versions: Sequence[str]) -> Iterator[str]:
    yield sys.executable
    for version in versions:
        for folder in os.get_exec_path():
            program = Path(folder, f"python{version}")
            if program.is_file() and os.access(program, os.X_OK):
                yield str(program)


def _probe(executable: str) -> tuple[str, str, str | None, bool] | None:
    """Return version, program, library's folder, and whether it can make environments with pip.

    None for what is no Python, or does not start, as a shim of a version that is not installed.
    """
    try:
        done = subprocess.run(
            [executable, "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PROBE_S,
        )
        version, program, libraries, can_install = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return version, program, libraries, can_install
