"""Structs in Thrift's compact protocol, in which Parquet writes footers and page headers.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

import pyarrow as pa

_MOST_DEPTH = 12
_MOST_BITS = 64
# Of doubles and UUIDs.
_WIDTHS = {7: 8, 13: 16}

Fields = dict[int, Any]
"""The fields of a struct by number. Texts and doubles are passed over: their value is None."""


class Cursor:
    """A place in some bytes; raises IndexError at their end."""

    def __init__(self, data: bytes) -> None:
        """Begin at the start."""
        self._data, self.at = data, 0

    def byte(self) -> int:
        """Return the next byte."""
        self.at += 1
        return self._data[self.at - 1]

    def varint(self) -> int:
        """Return the next unsigned number."""
        value = shift = 0
        while (part := self.byte()) & 0x80:
            value |= (part & 0x7F) << shift
            shift += 7
            if shift > _MOST_BITS:
                raise pa.ArrowInvalid("it has a number of more than 64 bits")
        return value | part << shift

    def zigzag(self) -> int:
        """Return the next signed number."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, count: int) -> None:
        """Pass over some bytes."""
        self.at += count
        if self.at > len(self._data):
            raise IndexError(count)


def read_struct(cursor: Cursor, depth: int = 0) -> Fields:
    """Return the struct at a place. Raises IndexError where the bytes end before it does.

    Raises pyarrow.ArrowInvalid for what is no struct.
    """
    fields: Fields = {}
    number = 0
    while head := cursor.byte():
        number = number + (head >> 4) if head >> 4 else cursor.zigzag()
        fields[number] = _value(cursor, head & 15, depth)
    return fields


def _value(cursor: Cursor, kind: int, depth: int) -> Any:
    if kind in (1, 2):
        return kind == 1
    if kind == 3:
        return cursor.byte()
    if kind in (4, 5, 6):
        return cursor.zigzag()
    if kind in _WIDTHS:
        return cursor.skip(_WIDTHS[kind])
    if kind == 8:
        return cursor.skip(cursor.varint())
    if depth == _MOST_DEPTH:
        raise pa.ArrowInvalid("its structs are too deep")
    if kind in (9, 10):
        head = cursor.byte()
        count = head >> 4 if head >> 4 < 15 else cursor.varint()
        if head & 15 in (1, 2):
            return cursor.skip(count)
        return [_value(cursor, head & 15, depth + 1) for _ in range(count)]
    if kind == 12:
        return read_struct(cursor, depth + 1)
    # Parquet has no maps.
    raise pa.ArrowInvalid("it has a field of an unknown type")
