"""The pages of a Parquet column chunk: where they are and how large, before they are read.

Source: https://github.com/apache/parquet-format (parquet.thrift, and Thrift's compact protocol).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

# Most headers have some 50 bytes; with statistics up to a few kB. Hostile ones have no end.
_FIRST_BYTES, _MOST_BYTES = 512, 1 << 20
_MOST_DEPTH = 8
# Of doubles and UUIDs.
_WIDTHS = {7: 8, 13: 16}

Fields = dict[int, Any]


class PageKind(IntEnum):
    """The kinds of pages that hold values."""

    DATA = 0
    DICTIONARY = 2
    DATA_V2 = 3


@dataclass(frozen=True)
class Page:
    """A page: its content is the bytes from `start` up to `stop` of the file.

    `size` is that of the content without compression, `values` counts nulls too. In version 2 the
    first `level_bytes` are levels, which are never compressed.
    """

    kind: int
    start: int
    stop: int
    size: int
    values: int
    encoding: int
    level_bytes: int = 0
    is_compressed: bool = True
    crc: int | None = None

    @classmethod
    def of(cls, fields: Fields, start: int) -> Self:
        """Return the page with this header, whose content begins at `start`."""
        kind, size, stored = (fields[number] for number in (1, 2, 3))
        if min(size, stored) < 0:
            raise pa.ArrowInvalid("a page's size is negative")
        place = {PageKind.DATA: 5, PageKind.DICTIONARY: 7, PageKind.DATA_V2: 8}.get(kind)
        own: Fields = fields[place] if place else {1: 0}
        is_v2 = kind == PageKind.DATA_V2
        return cls(
            kind,
            start,
            start + stored,
            size,
            values=own[1],
            encoding=own.get(4 if is_v2 else 2, 0),
            level_bytes=own[5] + own[6] if is_v2 else 0,
            is_compressed=own.get(7, True) if is_v2 else True,
            crc=fields[4] & 0xFFFFFFFF if 4 in fields else None,
        )


def pages_of(source: pa.NativeFile, chunk: pq.ColumnChunkMetaData) -> Iterator[Page]:
    """Yield the pages of a column chunk in order, reading their headers only.

    Raises pyarrow.ArrowInvalid for a damaged header.
    """
    offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
    at = min(offset for offset in offsets if offset)
    end, values = at + chunk.total_compressed_size, 0
    while values < chunk.num_values and at < end:
        page = _read_page(source, at, end)
        yield page
        values += page.values if page.kind != PageKind.DICTIONARY else 0
        at = page.stop


def _read_page(source: pa.NativeFile, at: int, end: int) -> Page:
    size = _FIRST_BYTES
    while True:
        data = source.read_at(min(size, end - at), at)
        cursor = _Cursor(data)
        try:
            page = Page.of(_struct(cursor, 0), at + cursor.at)
        except IndexError as error:
            if len(data) < size or size >= _MOST_BYTES:
                raise pa.ArrowInvalid("the header of a page is damaged") from error
            size *= 8
            continue
        except (KeyError, TypeError) as error:
            raise pa.ArrowInvalid("the header of a page is damaged") from error
        return page


class _Cursor:
    """A place in some bytes; raises IndexError at their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while (part := self.byte()) & 0x80:
            value |= (part & 0x7F) << shift
            shift += 7
        return value | part << shift

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise IndexError(count)


def _struct(cursor: _Cursor, depth: int) -> Fields:
    fields: Fields = {}
    number = 0
    while head := cursor.byte():
        number = number + (head >> 4) if head >> 4 else cursor.zigzag()
        fields[number] = _value(cursor, head & 15, depth)
    return fields


def _value(cursor: _Cursor, kind: int, depth: int) -> Any:
    """Return the value of a field of a page's header. Others than numbers are passed over."""
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
        raise pa.ArrowInvalid("the header of a page is damaged")
    if kind in (9, 10):
        head = cursor.byte()
        count = head >> 4 if head >> 4 < 15 else cursor.varint()
        return [_value(cursor, head & 15, depth + 1) for _ in range(count)]
    if kind == 12:
        return _struct(cursor, depth + 1)
    # No version of the format has maps in these headers.
    raise pa.ArrowInvalid("the header of a page is damaged")
