"""One build at a time: a staging folder beside the repository that takes its place when all went well."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aigid.errors import BuildError
from aigid.storage import replace_folder, restore_folder


@contextmanager
def staged_repository(repository: Path) -> Iterator[Path]:
    """An empty folder, locked against other builds, that becomes `repository`; on an error nothing changes.

    Raises BuildError where another build is under way, or the files cannot be written.
    """
    repository = repository.resolve()
    with locked_repository(repository) as staging:
        yield staging
        staging.chmod(0o755)
        replace_folder(staging, repository)


@contextmanager
def locked_repository(repository: Path) -> Iterator[Path]:
    """Hold off other builds of `repository`; gives a scratch folder beside it, which is removed in the end."""
    repository = repository.resolve()
    staging = repository.with_name(f".{repository.name}.building")
    handle = None
    try:
        repository.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(staging)
        restore_folder(repository)
        _empty(staging)
        yield staging
    except BlockingIOError as error:
        raise BuildError(
            f"{repository}: another build is writing to it now; wait until it has ended"
        ) from error
    except OSError as error:
        reason = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        raise BuildError(
            f"{repository}: cannot be built: {reason}; what was there is as it was"
        ) from error
    finally:
        if handle is not None:
            if _is_at(handle, staging):
                shutil.rmtree(staging, ignore_errors=True)
            os.close(handle)


def _lock(staging: Path) -> int:
    """A handle that locks the folder until it is closed; a folder that a killed build left is taken over."""
    while True:
        staging.mkdir(exist_ok=True)
        handle = os.open(staging, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        if _is_at(handle, staging):
            return handle
        # Another build ended between the two calls: the folder is the repository now, or gone.
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _empty(folder: Path) -> None:
    for item in folder.iterdir():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()
