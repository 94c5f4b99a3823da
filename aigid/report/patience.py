"""A bound on how long a report looks for images: stores and servers may be slow or gone."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aigid.errors import AigidError
from aigid.records import ErrorCode, RowFailure

_MOST_S = 60.0
_MOST_FAILURES = 3


class Patience:
    """Gives up after a time, and a store or web server after some failures there."""

    def __init__(self, most_s: float = _MOST_S) -> None:
        self._most_s, self._end = most_s, time.monotonic() + most_s
        self._failures: Counter[str] = Counter()

    def check(self) -> None:
        """Raise AigidError where the time is over."""
        if time.monotonic() > self._end:
            raise AigidError(f"not looked up: {self._most_s:.0f} s for all images were over")

    @contextmanager
    def with_place(self, place: str | None) -> Iterator[None]:
        """Look something up at a store's bucket or a web server; None for this host.

        Raises AigidError without looking where the time is over, or where the place failed before.
        """
        self.check()
        if place is not None and self._failures[place] >= _MOST_FAILURES:
            raise AigidError(f"not looked up: {place} failed {_MOST_FAILURES} times")
        try:
            yield
        except RowFailure as failure:
            if failure.error.code is ErrorCode.TIMEOUT and place is not None:
                self._failures[place] += 1
            raise
        except AigidError:
            if place is not None:
                self._failures[place] += 1
            raise
