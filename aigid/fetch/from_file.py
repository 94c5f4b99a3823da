"""Images in local files: regular files only, and below the image root unless others are allowed."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aigid.errors import AigidError
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, printable

_MISSING_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
_DENIED_ERRORS = (errno.EACCES, errno.EPERM)
# Opening a socket, or the node of a device that does not exist.
_NOT_A_FILE_ERRORS = (errno.ENXIO, errno.ENODEV)
# Other files would meet these as well: of this process, of the host, and of a network's disk.
_ERRORS_OF_ALL = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ESTALE, errno.ENOTCONN),
    *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ESHUTDOWN),
)


def fetch_file(text: str, root: Path | None, limits: DecodeLimits, *, allow_outside: bool) -> bytes:
    """Return the bytes of the file at a path, which is absolute or relative to `root`.

    Raises RowFailure: missing, forbidden, too_large, empty or undecodable. Raises AigidError where
    the disk itself fails.
    """
    path, base = _resolve(text, root, allow_outside)
    if not allow_outside:
        _check_below(path, base, text)
    try:
        with _opened(path) as handle:
            if not allow_outside:
                _check_below(_path_of(handle, path), base, text)
            return _read_regular_file(handle, path.name, limits)
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
        if error.errno not in _ERRORS_OF_ALL and _is_listed(base):
            # A bad sector, or a file that its own file system finds damaged.
            detail = f"{printable(text)}: the disk cannot read it: {error.strerror}"
            raise RowFailure(ErrorCode.UNDECODABLE, detail) from error
        raise AigidError(
            f"{path}: the storage failed: {error}; run the scan again to continue"
        ) from error


def _is_listed(folder: Path) -> bool:
    """Return whether a folder can be listed, by which the disk itself is well."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError:
        return False
    return True


def _resolve(text: str, root: Path | None, allow_outside: bool) -> tuple[Path, Path]:
    """Return the path with its links resolved, and the folder that it is relative to."""
    if root is None and not (allow_outside and text.startswith("/")):
        raise RowFailure(
            ErrorCode.FORBIDDEN, f"{printable(text)}: a path needs a local image root (image_root)"
        )
    try:
        base = (root or Path("/")).resolve()
        path = (base / text).resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise RowFailure(ErrorCode.MISSING, f"{printable(text)}: {error}") from error
    return path, base


def _check_below(path: Path, base: Path, text: str) -> None:
    if not path.is_relative_to(base):
        raise RowFailure(
            ErrorCode.FORBIDDEN,
            f"{printable(text)}: outside the image root {base} (allow_outside_root)",
        )


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    # Without O_NONBLOCK, opening a named pipe would wait for a writer forever.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield handle
    finally:
        os.close(handle)


def _path_of(handle: int, path: Path) -> Path:
    """Return where an open file is: a link may have been put into its path since the check."""
    try:
        return Path(f"/proc/self/fd/{handle}").readlink()
    except OSError:
        # Only Linux tells.
        return path.resolve()


def _read_regular_file(handle: int, name: str, limits: DecodeLimits) -> bytes:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise RowFailure(ErrorCode.UNDECODABLE, f"{printable(name)}: {kind}")
    check_byte_limit(status.st_size, limits)
    with os.fdopen(handle, "rb", closefd=False) as file:
        return file.read(limits.max_bytes)
