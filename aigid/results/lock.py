"""The lock of a results folder: one scan writes to it at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aigid.storage import Location, exists, lock_open_file, read_bytes

LOCK_FILE = ".lock"


@contextmanager
def lock_folder(folder: Location, token: str) -> Iterator[None]:
    """Hold a local folder's lock, with `token` in the lock file; object stores have no locks.

    Nor have some file systems: a warning says so.

    Raises BlockingIOError where another process holds it, and OSError where it cannot be written.
    """
    if not folder.is_local:
        yield
        return
    handle = os.open(Path(folder.path) / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock_open_file(handle, folder.text)
        os.truncate(handle, 0)
        os.write(handle, token.encode("ascii"))
        try:
            yield
        finally:
            os.truncate(handle, 0)
    finally:
        # This releases the lock.
        os.close(handle)


def holds_token(folder: Location, token: str) -> bool:
    """Return whether a folder's lock file has this token; always true for object stores."""
    if not folder.is_local:
        return True
    file = folder.child(LOCK_FILE)
    return exists(file) and read_bytes(file).decode("ascii", "replace") == token
