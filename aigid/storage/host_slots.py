"""A limit on the requests that one host gets at a time."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class HostSlots:
    """Lets at most `most` threads at a time hold a slot of one host. Hosts do not wait for others.

    Hold one slot at a time: two threads that each wait for the other's would wait forever.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._used: Counter[str] = Counter()
        self._changed = Condition()

    @contextmanager
    def hold(self, host: str) -> Iterator[float]:
        """Hold a slot until the context ends; yields the seconds that it was waited for."""
        asked = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._used[host] < self._most)
            self._used[host] += 1
        try:
            yield time.monotonic() - asked
        finally:
            with self._changed:
                self._used[host] -= 1
                if not self._used[host]:
                    del self._used[host]
                self._changed.notify_all()


_SLOTS: dict[int, HostSlots] = {}


def host_slots(most: int) -> HostSlots:
    """Return the slots that all threads of this process share."""
    # Atomic, unlike a cache: two tables would let twice as many requests through.
    return _SLOTS.setdefault(most, HostSlots(most))
