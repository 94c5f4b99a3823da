"""Folders that are replaced as a whole."""

import shutil
from pathlib import Path


def replace_folder(new: Path, folder: Path) -> None:
    """Put the folder `new` in the place of `folder`, which is set aside first and then removed."""
    old = _aside(folder)
    shutil.rmtree(old, ignore_errors=True)
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        restore_folder(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Put back the folder that `replace_folder` had set aside, where it ended before the new one was in its place."""
    old = _aside(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
