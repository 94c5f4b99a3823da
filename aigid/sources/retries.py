"""Reads from object stores that fail for a moment.

Their clients try again themselves where they understand the store's error. They do not where so few
bytes were asked for that the error is cut off: at the end of a file, or in a small one.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa

from aigid.errors import AigidError
from aigid.sources.files import Segment
from aigid.storage import Location, is_temporary

Answer = TypeVar("Answer")

_PAUSES_S = (0.5, 2.0)


def tried_again(call: Callable[[], Answer], location: Location) -> Answer:
    """Return `call()`; where the store fails for a moment, once or twice more."""
    for pause_s in _PAUSES_S:
        try:
            return call()
        except AigidError as error:
            if not _is_temporary(error, location):
                raise
        time.sleep(pause_s)
    return call()


def read_on(
    read: Callable[[Segment], Iterator[pa.RecordBatch]], segment: Segment, location: Location
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment; where the store fails for a moment, go on after the last one."""
    pauses_s = iter(_PAUSES_S)
    while True:
        try:
            for rows in read(segment):
                yield rows
                segment = replace(segment, start=segment.start + len(rows))
                pauses_s = iter(_PAUSES_S)
            return
        except AigidError as error:
            pause_s = next(pauses_s, None)
            if pause_s is None or not _is_temporary(error, location):
                raise
        time.sleep(pause_s)


def _is_temporary(error: BaseException, location: Location) -> bool:
    cause = error.__cause__
    return isinstance(cause, Exception) and is_temporary(cause, location)
