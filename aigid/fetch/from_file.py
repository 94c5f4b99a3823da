"""Images in local files: regular ones, below the image root unless others are allowed."""

import errno
import os
import stat
from pathlib import Path

from aigid.errors import AigidError
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, shown

_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)
# What opening a socket says, or a device that is not there.
_NOT_A_FILE = (errno.ENXIO, errno.ENODEV)


def fetch_file(text: str, root: Path | None, limits: DecodeLimits, *, allow_outside: bool) -> bytes:
    """The bytes of the file at a path, relative to `root`.

    Raises RowFailure: missing, forbidden, too_large, empty or undecodable. Raises AigidError where the disk itself fails.
    """
    path = _resolve(text, root, allow_outside)
    try:
        return _read_regular_file(path, limits)
    except ValueError as error:
        raise RowFailure(ErrorCode.MISSING, f"{shown(text)}: {error}") from error
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise RowFailure(ErrorCode.MISSING, f"{shown(text)}: {error.strerror}") from error
        if error.errno in _NOT_ALLOWED:
            raise RowFailure(ErrorCode.FORBIDDEN, f"{shown(text)}: {error.strerror}") from error
        if error.errno in _NOT_A_FILE:
            raise RowFailure(
                ErrorCode.UNDECODABLE, f"{shown(path.name)}: not a regular file"
            ) from error
        raise AigidError(
            f"{path}: the storage failed: {error}; run the scan again to go on"
        ) from error


def _resolve(text: str, root: Path | None, allow_outside: bool) -> Path:
    if root is None and not (allow_outside and text.startswith("/")):
        raise RowFailure(
            ErrorCode.FORBIDDEN,
            f"{shown(text)}: a path, but there is no local image root: give --image-root",
        )
    try:
        base = (root or Path("/")).resolve()
        path = (base / text).resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise RowFailure(ErrorCode.MISSING, f"{shown(text)}: {error}") from error
    if not allow_outside and not path.is_relative_to(base):
        raise RowFailure(
            ErrorCode.FORBIDDEN,
            f"{shown(text)}: outside the image root {base}; --allow-outside-root allows it",
        )
    return path


def _read_regular_file(path: Path, limits: DecodeLimits) -> bytes:
    # Without O_NONBLOCK, opening a named pipe would wait for ever.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
            raise RowFailure(ErrorCode.UNDECODABLE, f"{shown(path.name)}: {kind}")
        check_byte_limit(facts.st_size, limits)
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(limits.max_bytes)
    finally:
        os.close(handle)
