"""The memory that all threads of a process may use for decoding large images at a time."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Condition, local
from typing import TypeVar

import numpy as np

from aigid.cores import available_cores
from aigid.errors import AigidError

Answer = TypeVar("Answer")

# Images of up to 8 megapixels need less. They do not wait, and cost no lock.
_SMALL_BYTES = 64_000_000
_BASE_BYTES, _BYTES_PER_FURTHER_CORE = 1_100_000_000, 250_000_000


class MemoryBudget:
    """Makes threads wait, in turn, until what they need is free. It never refuses.

    An image that needs more than all of it is decoded alone.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes, self._used_bytes = total_bytes, 0
        self._waiting: deque[object] = deque()
        self._changed = Condition()
        self._thread = local()

    @contextmanager
    def reserve(self, needed_bytes: int) -> Iterator[None]:
        """Hold `needed_bytes` while the block runs; wait for them where they are not free."""
        if needed_bytes <= _SMALL_BYTES or getattr(self._thread, "is_alone", False):
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
def decoding_budget() -> MemoryBudget:
    """Return the budget of this process: one, as its memory is."""
    further_cores = max(0, available_cores() - 2)
    return MemoryBudget(_BASE_BYTES + _BYTES_PER_FURTHER_CORE * further_cores)


def retry_alone(decode: Callable[[], Answer], most_bytes: int) -> Answer:
    """Return `decode()`; where memory runs out, once more while no thread decodes a large image.

    Raises ValueError where the image asks for more than `most_bytes`, and AigidError where the host
    cannot give that much: no answer depends on the host's memory.
    """
    try:
        return decode()
    except MemoryError:
        # Leave the handler, whose traceback keeps the first attempt's memory.
        pass
    with decoding_budget().all_of_it():
        try:
            return decode()
        except MemoryError:
            pass
        try:
            np.empty(most_bytes, np.uint8)
        except MemoryError as error:
            raise AigidError(
                f"out of memory: decoding an image may take {most_bytes // 1_000_000} MB; give "
                "this host more memory, or use fewer threads"
            ) from error
    raise ValueError(f"it asks for more than {most_bytes // 1_000_000} MB of memory")
