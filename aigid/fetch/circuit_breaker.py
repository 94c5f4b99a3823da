"""A circuit breaker: ends a scan when the network is down.

An image whose host is gone is that row's error. When the images of many hosts in a row cannot be
fetched, the network is down, and the rest of the rows must not be written as errors. The same holds
for a store that does not deliver so many objects in a row.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from aigid.errors import StorageError
from aigid.fetch.from_web import HostUnreachable
from aigid.records import RowFailure

# In an old list of URLs every third host may be gone. This many failures in a row, of this many
# hosts, do not happen by chance.
_MAX_FAILURES, _MIN_HOSTS = 64, 12


class CircuitBreaker:
    """Counts consecutive images with an unreachable host, over all threads of a scan."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures = 0
        self._hosts: set[str] = set()
        self._store_failures = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count how the fetch of one image ends, and pass its error on.

        Raises StorageError instead where the network must be down: after 64 failures in a row, of
        12 hosts or more, or of object stores.
        """
        try:
            yield
        except HostUnreachable as failure:
            if self._count_failure(failure):
                place = "object stores" if failure.is_store else f"{_MIN_HOSTS} hosts or more"
                raise StorageError(
                    f"{_MAX_FAILURES} images in a row, from {place}, could not be fetched (the "
                    f"last one: {failure.error.detail}): check the network, then run the scan "
                    "again to continue"
                ) from failure
            raise
        except RowFailure:
            # A refusal is an answer: the network is up.
            self._reset()
            raise
        else:
            self._reset()

    def _count_failure(self, failure: HostUnreachable) -> bool:
        """Return whether the network must be down."""
        with self._lock:
            self._failures += 1
            self._store_failures += failure.is_store
            self._hosts.add(failure.host)
            of_many_hosts = self._failures >= _MAX_FAILURES and len(self._hosts) >= _MIN_HOSTS
            return of_many_hosts or self._store_failures >= _MAX_FAILURES

    def _reset(self) -> None:
        with self._lock:
            self._failures = self._store_failures = 0
            self._hosts.clear()
