"""The pages of a Parquet column chunk: where they are and how large, before they are read.

Source: https://github.com/apache/parquet-format (parquet.thrift).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import pyarrow as pa

from aigid.sources.footer import ColumnChunk
from aigid.sources.thrift import Cursor, Fields, read_struct

# Most headers have some 50 bytes; with statistics up to a few kB. Hostile ones have no end.
_FIRST_BYTES, _MOST_BYTES = 512, 1 << 20


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


def pages_of(source: pa.NativeFile, chunk: ColumnChunk) -> Iterator[Page]:
    """Yield the pages of a column chunk in order, reading their headers only.

    Raises pyarrow.ArrowInvalid for a damaged header.
    """
    offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
    at = min((offset for offset in offsets if offset), default=0)
    end, values = at + chunk.compressed_bytes, 0
    while values < chunk.values and at < end:
        page = _read_page(source, at, end)
        yield page
        values += page.values if page.kind != PageKind.DICTIONARY else 0
        at = page.stop


def _read_page(source: pa.NativeFile, at: int, end: int) -> Page:
    size = _FIRST_BYTES
    while True:
        data = source.read_at(min(size, end - at), at)
        cursor = Cursor(data)
        try:
            page = Page.of(read_struct(cursor), at + cursor.at)
        except IndexError as error:
            if len(data) < size or size >= _MOST_BYTES:
                raise pa.ArrowInvalid("the header of a page is damaged") from error
            size *= 8
            continue
        except (KeyError, TypeError, AttributeError, pa.ArrowInvalid) as error:
            raise pa.ArrowInvalid("the header of a page is damaged") from error
        return page
