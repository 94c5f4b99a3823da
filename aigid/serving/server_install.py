"""Install NVIDIA's server and what its models import, from wheels with known hashes."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aigid.errors import ServerError
from aigid.serving.host_python import HostPython
from aigid.serving.parent_death import kill_tied, start_tied
from aigid.serving.server_folder import REQUIREMENTS, finish_folder, is_finished, packages_of
from aigid.storage import lock_open_file

OnProgress = Callable[[float], None]
"""Called with the fraction that is done, several times a second."""

_TEMPORARY = ".aigid-installs-"
# What is written while it installs: an environment with pip, the downloads, the packages.
_WRITTEN_BYTES = 510e6
_POLL_S = 0.3
# What pip prints of a file whose hash is not in the list.
_MISMATCH = re.compile(r"^ +(\S+==\S+)(?: from (.+))?:\n +Expected sha256", re.MULTILINE)
_ELSEWHERE = (
    "; or prepare the server on a host that can, with `aigid serve --prepare`, or install "
    "tritonserver yourself and put it on the PATH"
)


def install_server(
    folder: Path,
    python: HostPython,
    on_message: Callable[[str], None],
    on_progress: OnProgress,
) -> None:
    """Install the server for this Python into a new folder, unless another process has done so.

    The folder is there whole, or not at all. Raises ServerError if pip fails, or finds other files
    than those that aigid was tested with; OSError where the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder.parent, on_message):
        if is_finished(folder):
            return
        # One that was killed.
        for old in folder.parent.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(old, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_TEMPORARY))
        try:
            _install_packages(temporary, python, on_progress)
            new = temporary / "server"
            finish_folder(new, python.version)
            # Empty, or damaged by hand: what is whole is used above.
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    on_progress(1.0)


@contextmanager
def _alone_in(parent: Path, on_message: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process installs below `parent`, and keep others out."""
    handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        waits = False
        while True:
            try:
                lock_open_file(handle, str(parent))
                break
            except BlockingIOError:
                if not waits:
                    on_message(f"another process installs a server below {parent}: waiting for it")
                waits = True
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(handle)


def _install_packages(temporary: Path, python: HostPython, on_progress: OnProgress) -> None:
    """Install into the folder `packages` of the new folder below `temporary`."""
    work = temporary / "work"
    # pip downloads there, so that progress is seen and nothing stays.
    (work / "tmp").mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(work / "tmp"), "PYTHONNOUSERSITE": "1"}

    def run(*command: str | Path) -> None:
        log = work / "log"
        status = _run([str(word) for word in command], environment, log, watch)
        if status:
            raise ServerError(_reason(log.read_text(encoding="utf-8", errors="replace")))

    most = 0.0

    def watch() -> None:
        nonlocal most
        most = max(most, min(0.99, _bytes_in(temporary) / _WRITTEN_BYTES))
        on_progress(most)

    run(python.executable, "-I", "-m", "venv", work / "environment")
    # Without the dependencies that the packages name: every file that is installed is in the list.
    # Never from source, which would compile for minutes.
    run(
        work / "environment" / "bin" / "python",
        *("-m", "pip", "install", "--no-deps", "--no-user", "--only-binary=:all:"),
        *("--progress-bar=off", "--no-input", "--disable-pip-version-check"),
        *(f"--target={packages_of(temporary / 'server')}", "--require-hashes"),
        *("-r", REQUIREMENTS),
    )


def _run(
    command: list[str], environment: dict[str, str], log: Path, watch: Callable[[], None]
) -> int:
    """Run a program that ends with this process, and call `watch` meanwhile; return its status."""
    with log.open("wb") as output:
        process = start_tied(command, environment, output)
        try:
            while True:
                watch()
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL_S)
        finally:
            kill_tied(process)


def _bytes_in(folder: Path) -> int:
    """Return the bytes of all files below a folder, which another process changes meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


def _reason(log: str) -> str:
    """Return why venv or pip failed, and what to do."""
    other = _MISMATCH.search(log)
    if other:
        place = f" ({other[2]})" if other[2] else ""
        return (
            f"pip was given another file as {other[1]}{place} than the one that aigid was tested "
            "with, and did not install it: its SHA-256 differs: it is damaged, or an index or a "
            "cache has replaced it: clear pip's cache (pip cache purge) or name another index "
            f"(PIP_INDEX_URL){_ELSEWHERE}"
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    reason = (errors or lines or ["it gave no reason"])[-1]
    return (
        f"the tritonserver of NVIDIA's wheel cannot be installed: {reason}: pip needs an index of "
        f"packages: look at the network and at pip's settings (PIP_INDEX_URL){_ELSEWHERE}"
    )
