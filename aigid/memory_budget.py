"""The memory that all threads of a process may use for large images and texts at a time."""

import ctypes
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Condition, local

from aigid.cores import available_cores

SMALL_BYTES = 64_000_000
"""What needs no more than this never waits, and costs no lock: images of up to 8 megapixels."""

_BASE_BYTES, _BYTES_PER_FURTHER_CORE = 850_000_000, 250_000_000


class MemoryBudget:
    """Makes threads wait, in turn, until what they need is free. It never refuses.

    What needs more than all of it is done alone.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes, self._used_bytes = total_bytes, 0
        self._waiting: deque[object] = deque()
        self._changed = Condition()
        self._thread = local()

    @property
    def total_bytes(self) -> int:
        """All of the memory, free or not."""
        return self._total_bytes

    @contextmanager
    def reserve(self, needed_bytes: int) -> Iterator[None]:
        """Hold `needed_bytes` while the block runs; wait for them where they are not free."""
        if needed_bytes <= SMALL_BYTES or getattr(self._thread, "is_alone", False):
            yield
            return
        needed_bytes = min(needed_bytes, self._total_bytes)
        turn = object()
        with self._changed:
            # In turn, so that many smaller images cannot keep a large one waiting for ever.
            self._waiting.append(turn)
            try:
                self._changed.wait_for(
                    lambda: (
                        self._waiting[0] is turn
                        and self._used_bytes + needed_bytes <= self._total_bytes
                    )
                )
                self._used_bytes += needed_bytes
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            _return_free_memory()
            with self._changed:
                self._used_bytes -= needed_bytes
                self._changed.notify_all()

    @contextmanager
    def all_of_it(self) -> Iterator[None]:
        """Hold everything while the block runs. What it reserves itself is a part of that."""
        with self.reserve(self._total_bytes):
            self._thread.is_alone = True
            try:
                yield
            finally:
                self._thread.is_alone = False


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function of that name; None with another C library."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


def _return_free_memory() -> None:
    """Give memory that this thread has freed back to the system, for the next thread's image.

    glibc keeps the blocks of Pillow's images for the thread that had them: with two threads, a scan
    needed up to 1.8 times the memory.
    """
    trim = _malloc_trim() if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


# One for the process, as its memory is: it delays answers and never changes them. Made here, for
# threads that made it on first use could make two.
LARGE_ROWS = MemoryBudget(
    _BASE_BYTES + _BYTES_PER_FURTHER_CORE * max(0, available_cores() - 2),
)
