"""Locks on open files and folders of a local disk."""

import errno
import fcntl
import logging

_log = logging.getLogger(__name__)

# Some network file systems have no locks (Lustre without its option, many FUSE file systems).
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def lock_open_file(handle: int, place: str) -> None:
    """Lock an open file or folder until it is closed; `place` names it for people.

    Where the file system has no locks, a warning says so. Raises BlockingIOError where another
    process holds the lock, and OSError for other failures.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning(
            "%s: its file system has no locks: make sure that nothing else writes there now", place
        )
