"""One build at a time, in a staging folder next to the repository that replaces it at the end."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aigid.errors import BuildError
from aigid.storage import lock_open_file, replace_folder, restore_folder


@contextmanager
def staged_repository(repository: Path) -> Iterator[Path]:
    """Yield an empty, locked folder that replaces `repository` at the end.

    If the body raises, the repository stays as it was. Raises BuildError if another build is
    running, or if the files cannot be written.
    """
    repository = repository.resolve()
    with locked_repository(repository) as staging:
        yield staging
        replace_folder(staging, repository)


def check_can_be_written(repository: Path) -> None:
    """Raise BuildError as `staged_repository` does, before the work whose result it is for."""
    with locked_repository(repository):
        pass


@contextmanager
def locked_repository(repository: Path) -> Iterator[Path]:
    """Lock `repository` against other builds; yield a scratch folder next to it.

    The scratch folder is removed at the end. Raises BuildError as `staged_repository` does.
    """
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
            f"{repository}: another build is writing to it: wait until that one has ended"
        ) from error
    except OSError as error:
        reason = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        raise BuildError(
            f"{repository}: cannot be built: {reason}; the repository stays as it was"
        ) from error
    finally:
        if handle is not None:
            if _is_at(handle, staging):
                shutil.rmtree(staging, ignore_errors=True)
            os.close(handle)


def _lock(staging: Path) -> int:
    """Return a handle that locks the folder until it is closed.

    A folder that a killed build left behind is reused.
    """
    while True:
        staging.mkdir(exist_ok=True)
        handle = os.open(staging, os.O_RDONLY)
        try:
            lock_open_file(handle, str(staging.parent))
        except OSError:
            os.close(handle)
            raise
        if _is_at(handle, staging):
            return handle
        # Another build ended between the two calls: it has moved or removed the folder.
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Tell whether `path` still is the open folder."""
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
