"""Tells images that cannot be had from a network that is down: the first are rows' errors, the second ends a scan."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from aigid.errors import StorageError
from aigid.records import RowFailure
from aigid.storage.http import Unreachable

# Of hosts in an old list of URLs, every third may be gone: so many failures in a row of so many hosts are not by chance.
_FAILURES, _HOSTS = 64, 12


class CircuitBreaker:
    """Counts, for all threads of a scan, images in a row whose hosts could not be reached."""

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self._lock = Lock()
        self._failures = 0
        self._hosts: set[str] = set()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Note how a fetch ends; raises StorageError, in place of the row's failure, where the network must be down."""
        try:
            yield
        except Unreachable as failure:
            if self._is_outage(failure.host):
                raise StorageError(
                    f"{_FAILURES} images in a row, from {_HOSTS} hosts or more, could not be fetched (the last: "
                    f"{failure.error.detail}): is the network down? Run the same command again to go on"
                ) from failure
            raise
        except RowFailure:
            # A refusal is an answer.
            self._reached()
            raise
        else:
            self._reached()

    def _is_outage(self, host: str) -> bool:
        with self._lock:
            self._failures += 1
            self._hosts.add(host)
            return self._failures >= _FAILURES and len(self._hosts) >= _HOSTS

    def _reached(self) -> None:
        with self._lock:
            self._failures = 0
            self._hosts.clear()
