"""Folders on a local disk: made for results, or replaced as a whole."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aigid.errors import UsageError


def make_output_folder(folder: Path) -> None:
    """Make a folder for results, and its parents, if missing: before the work that they come from.

    Raises UsageError where it cannot be made, or nothing can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"`folder` {folder}: cannot be written to: {reason}: choose another"
        ) from error


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` at the end, unless the body raises.

    The umask decides who can read it, as with any new folder. One made by `tempfile.mkdtemp` is
    readable by its owner alone.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    staging.mkdir()
    try:
        yield staging
        replace_folder(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def replace_folder(new: Path, folder: Path) -> None:
    """Move the folder `new` to `folder`, and remove what was there.

    The old folder is renamed first and removed last. Where the process is killed in between,
    `restore_folder` brings it back.
    """
    backup = _backup_of(folder)
    shutil.rmtree(backup, ignore_errors=True)
    try:
        if folder.exists():
            folder.rename(backup)
        new.rename(folder)
    finally:
        restore_folder(folder)
    shutil.rmtree(backup, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Bring back the old folder where `replace_folder` ended before the new one was in place."""
    backup = _backup_of(folder)
    if backup.exists() and not folder.exists():
        backup.rename(folder)


def _backup_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
