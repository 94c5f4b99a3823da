"""Checks of the folders that scans write to: the temporary folder and the current one."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aigid.doctor.check import Check, hint, ok, problem

_GIB = 1 << 30
_FEW_BYTES = 1 << 30


def check_folders() -> Iterator[Check]:
    """Yield whether the temporary and the current folder can be written to, and have room."""
    yield check_temporary_folder()
    try:
        current = Path.cwd()
    except OSError as error:
        remedy = "Change to a folder that exists."
        yield problem("folder", f"the current folder cannot be read: {error.strerror}", remedy)
        return
    yield check_current_folder(current)


def check_temporary_folder() -> Check:
    """Return whether temporary files can be written; large manifests are indexed in one."""
    name = "temporary"
    try:
        folder = Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"aigid")
    except OSError as error:
        text = f"no temporary file can be written: {error.strerror}"
        return problem(name, text, "Set TMPDIR to a folder that you can write to, with free space.")
    wanted = os.environ.get("TMPDIR")
    if wanted and Path(wanted).absolute() != folder.absolute():
        text = f"{folder}, since TMPDIR={wanted} cannot be written to"
        return hint(name, text, "Make that folder, or set TMPDIR to another.")
    return _with_free_space(name, folder, str(folder), "Set TMPDIR to a folder with more.")


def check_current_folder(folder: Path) -> Check:
    """Return whether results can be written to a folder, and whether its file system has locks."""
    name = "folder"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            has_locks = _has_locks(file.fileno())
    except OSError as error:
        text = f"{folder}: cannot be written to: {error.strerror}"
        return hint(name, text, "Give --out in a folder that you can write to.")
    if not has_locks:
        remedy = "Make sure that one scan at a time writes to a results folder there."
        return hint(name, f"{folder}: writable; its file system has no locks", remedy)
    return _with_free_space(
        name, folder, f"{folder}: writable, with locks", "Give --out in a folder with more."
    )


def _has_locks(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _with_free_space(name: str, folder: Path, text: str, remedy: str) -> Check:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return hint(name, f"{text}; free space is not known: {error.strerror}", remedy)
    text = f"{text}; {free / _GIB:.1f} GiB free"
    return hint(name, text, remedy) if free < _FEW_BYTES else ok(name, text)
