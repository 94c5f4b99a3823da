"""Folders on a local disk that are replaced as a whole."""

import shutil
from pathlib import Path


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
