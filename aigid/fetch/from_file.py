"""Images in local files: regular files only, and below the image root unless others are allowed."""

import errno
import os
import stat
from pathlib import Path

from aigid.errors import AigidError
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, printable

_MISSING_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
_DENIED_ERRORS = (errno.EACCES, errno.EPERM)
# Opening a socket, or the node of a device that does not exist.
_NOT_A_FILE_ERRORS = (errno.ENXIO, errno.ENODEV)


def fetch_file(text: str, root: Path | None, limits: DecodeLimits, *, allow_outside: bool) -> bytes:
    """Return the bytes of the file at a path, which is absolute or relative to `root`.

    Raises RowFailure: missing, forbidden, too_large, empty or undecodable. Raises AigidError where
    the disk itself fails.
    """
    path = _resolve(text, root, allow_outside)
    try:
        return _read_regular_file(path, limits)
    except ValueError as error:
        raise RowFailure(ErrorCode.MISSING, f"{printable(text)}: {error}") from error
    except OSError as error:
        if error.errno in _MISSING_ERRORS:
            raise RowFailure(ErrorCode.MISSING, f"{printable(text)}: {error.strerror}") from error
        if error.errno in _DENIED_ERRORS:
            raise RowFailure(ErrorCode.FORBIDDEN, f"{printable(text)}: {error.strerror}") from error
        if error.errno in _NOT_A_FILE_ERRORS:
            detail = f"{printable(path.name)}: not a regular file"
            raise RowFailure(ErrorCode.UNDECODABLE, detail) from error
        raise AigidError(
            f"{path}: the storage failed: {error}; run the scan again to continue"
        ) from error


def _resolve(text: str, root: Path | None, allow_outside: bool) -> Path:
    if root is None and not (allow_outside and text.startswith("/")):
        raise RowFailure(
            ErrorCode.FORBIDDEN, f"{printable(text)}: a path needs a local image root (image_root)"
        )
    try:
        base = (root or Path("/")).resolve()
        path = (base / text).resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise RowFailure(ErrorCode.MISSING, f"{printable(text)}: {error}") from error
    if not allow_outside and not path.is_relative_to(base):
        raise RowFailure(
            ErrorCode.FORBIDDEN,
            f"{printable(text)}: outside the image root {base} (allow_outside_root)",
        )
    return path


def _read_regular_file(path: Path, limits: DecodeLimits) -> bytes:
    # Without O_NONBLOCK, opening a named pipe would wait for a writer forever.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise RowFailure(ErrorCode.UNDECODABLE, f"{printable(path.name)}: {kind}")
        check_byte_limit(status.st_size, limits)
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(limits.max_bytes)
    finally:
        os.close(handle)
