"""What one test process makes and all test processes of a run share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` has filled, once in a run, whichever process asks first."""
    base = factory.getbasetemp()
    # pytest-xdist gives each of its processes a folder below the run's own.
    run = base.parent if base.name.startswith("popen-") else base
    folder, done = run / f"shared-{name}", run / f"shared-{name}.done"
    with FileLock(run / f"shared-{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
