"""Decoding once more, alone, where memory ran out."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from aigid.errors import AigidError
from aigid.memory_budget import LARGE_ROWS

Answer = TypeVar("Answer")


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
    with LARGE_ROWS.all_of_it():
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
