"""Columns of strings or binaries whose Parquet pages are too large to be in memory as a whole.

PyArrow reads whole pages, and writes at least 1,024 values into one: of images of 18 MB each, that
is all that there are, up to 2 GiB. Here values are read one by one.
"""

import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from tempfile import SpooledTemporaryFile

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.sources.byte_streams import COMPRESSIONS, PIECE_BYTES, ByteStream, decompressed
from aigid.sources.footer import ColumnChunk
from aigid.sources.page_headers import Page, PageKind, pages_of

MOST_VALUE_BYTES = 256 << 20
"""A longer value is refused, unless the column's values may be cut."""

_PLAIN = 0
_DICTIONARY = (2, 8)
_READ_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_MOST_LEVEL_BYTES = 16 << 20
_DICTIONARY_BYTES_IN_MEMORY = 16 << 20


def is_readable(chunk: ColumnChunk, column: pq.ColumnSchema) -> bool:
    """Return whether a column chunk can be read value by value."""
    return bool(
        column.physical_type == "BYTE_ARRAY"
        and column.max_repetition_level == 0
        and chunk.compression in COMPRESSIONS
        and _READ_ENCODINGS.issuperset(chunk.encodings)
    )


@dataclass(frozen=True)
class LargeValues:
    """Values as large_binary, and their definition levels."""

    values: pa.Array
    levels: list[int]


class LargeColumn:
    """Reads a column chunk value by value.

    A longer value than `cut` is cut there. All methods raise pyarrow.ArrowException or OSError
    where the chunk is damaged.
    """

    def __init__(
        self,
        source: pa.NativeFile,
        chunk: ColumnChunk,
        column: pq.ColumnSchema,
        cut: int | None = None,
    ) -> None:
        self._source, self._compression, self._cut = source, chunk.compression, cut
        self._pages = pages_of(source, chunk)
        self._most_level = column.max_definition_level
        self._name = column.path
        self._levels: Iterator[int] = iter(())
        self._left = 0
        self._values: _Plain | _FromDictionary | None = None
        self._dictionary_page: Page | None = None
        self._dictionary: _Dictionary | None = None
        self._stored: Iterator[bytes] = iter(())
        self._clear()

    @property
    def size(self) -> int:
        """The bytes of the values that were read since the last call of `take`."""
        return len(self._data)

    def skip(self, rows: int) -> None:
        """Pass over rows; whole pages of them are not read."""
        while rows:
            if not self._left:
                page = self._next_page()
                if page.values <= rows:
                    rows -= page.values
                    continue
                self._open(page)
            step = min(rows, self._left)
            for level in islice(self._levels, step):
                if level == self._most_level:
                    self._page_values().skip()
            self._left -= step
            rows -= step

    def read_row(self) -> None:
        """Read the value of the next row."""
        while not self._left:
            self._open(self._next_page())
        level = next(self._levels)
        self._left -= 1
        self._found_levels.append(level)
        if level == self._most_level:
            self._page_values().append_to(self._data, self._cut)
        self._offsets.append(len(self._data))

    def take(self) -> LargeValues:
        """Return the values that were read since the last call."""
        levels = self._found_levels
        valid = pa.array([level == self._most_level for level in levels])
        buffers = [valid.buffers()[1], pa.py_buffer(self._offsets), pa.py_buffer(self._data)]
        values = pa.Array.from_buffers(pa.large_binary(), len(levels), buffers)
        self._clear()
        return LargeValues(values, levels)

    def close(self) -> None:
        """Remove the temporary file of a large dictionary."""
        if self._dictionary is not None:
            self._dictionary.close()

    def finish_page(self) -> None:
        """Read the page to its end, so that its checksum is verified."""
        for _ in self._stored:
            pass

    def _clear(self) -> None:
        self._data, self._found_levels, self._offsets = bytearray(), list[int](), array("q", [0])

    def _next_page(self) -> Page:
        self.finish_page()
        for page in self._pages:
            if page.kind == PageKind.DICTIONARY:
                self._dictionary_page = page
            elif page.kind in (PageKind.DATA, PageKind.DATA_V2):
                return page
        raise pa.ArrowInvalid(f"column {self._name} ends too early")

    def _read(self, page: Page) -> Iterator[bytes]:
        self._stored = _verified(self._source, page)
        return self._stored

    def _open(self, page: Page) -> None:
        """Begin a page: its levels, then its values."""
        stored = ByteStream(self._read(page))
        level_bytes = stored.read(page.level_bytes) if page.kind == PageKind.DATA_V2 else b""
        compression = self._compression if page.is_compressed else "UNCOMPRESSED"
        content = ByteStream(decompressed(compression, iter(lambda: stored.some(PIECE_BYTES), b"")))
        if page.kind == PageKind.DATA and self._most_level:
            level_bytes = content.read(_checked(content, _MOST_LEVEL_BYTES, self._name))
        self._left = page.values
        if self._most_level:
            width = self._most_level.bit_length()
            self._levels = _run_lengths(ByteStream(iter([level_bytes])), width, page.values)
        else:
            self._levels = repeat(0)
        if page.encoding in _DICTIONARY:
            self._values = _FromDictionary(content, page.values, self._read_dictionary())
        elif page.encoding == _PLAIN:
            self._values = _Plain(content, self._name)
        else:
            raise pa.ArrowInvalid(f"column {self._name} has a page in encoding {page.encoding}")

    def _read_dictionary(self) -> "_Dictionary":
        """Return the dictionary, which is read when a page first needs it."""
        if self._dictionary is None:
            page = self._dictionary_page
            if page is None:
                raise pa.ArrowInvalid(f"column {self._name} lacks its dictionary")
            stored = _verified(self._source, page)
            self._dictionary = _Dictionary(
                ByteStream(decompressed(self._compression, stored)), page.values
            )
            for _ in stored:
                pass
        return self._dictionary

    def _page_values(self) -> "_Plain | _FromDictionary":
        assert self._values is not None
        return self._values


class _Plain:
    """The values of a page that has them one after the other, each with its length."""

    def __init__(self, content: ByteStream, name: str) -> None:
        self._content, self._name = content, name

    def skip(self) -> None:
        size = int.from_bytes(self._content.read(4), "little")
        for _ in self._content.parts(size):
            pass

    def append_to(self, data: bytearray, cut: int | None) -> None:
        size = int.from_bytes(self._content.read(4), "little")
        wanted = min(size, _limit(size, cut, self._name))
        for part in self._content.parts(wanted):
            data += part
        for _ in self._content.parts(size - wanted):
            pass


class _Dictionary:
    """The values of a dictionary page, on disk where they are many bytes."""

    def __init__(self, content: ByteStream, values: int) -> None:
        self._file = SpooledTemporaryFile(_DICTIONARY_BYTES_IN_MEMORY)  # noqa: SIM115 - it is kept
        self._starts = array("q", [0])
        for _ in range(values):
            size = int.from_bytes(content.read(4), "little")
            for part in content.parts(size):
                self._file.write(part)
            self._starts.append(self._starts[-1] + size)

    def close(self) -> None:
        self._file.close()

    def size(self, index: int) -> int:
        if not 0 <= index < len(self._starts) - 1:
            raise pa.ArrowInvalid("a page refers to values that its dictionary lacks")
        return self._starts[index + 1] - self._starts[index]

    def read(self, index: int, count: int) -> bytes:
        self._file.seek(self._starts[index])
        return self._file.read(count)


class _FromDictionary:
    """The values of a page that has their indexes in the dictionary."""

    def __init__(self, content: ByteStream, values: int, dictionary: _Dictionary) -> None:
        self._indexes = _run_lengths(content, content.byte(), values)
        self._dictionary = dictionary

    def skip(self) -> None:
        next(self._indexes)

    def append_to(self, data: bytearray, cut: int | None) -> None:
        index = next(self._indexes)
        size = self._dictionary.size(index)
        data += self._dictionary.read(index, min(size, _limit(size, cut, "dictionary")))


def _limit(size: int, cut: int | None, name: str) -> int:
    if cut is None and size > MOST_VALUE_BYTES:
        raise pa.ArrowInvalid(
            f"column {name} has a value of {size >> 20} MiB; the most is {MOST_VALUE_BYTES >> 20}"
        )
    return size if cut is None else cut


def _checked(content: ByteStream, most: int, name: str) -> int:
    size = int.from_bytes(content.read(4), "little")
    if size > most:
        raise pa.ArrowInvalid(f"column {name} has {size} bytes of levels in a page")
    return size


def _verified(source: pa.NativeFile, page: Page) -> Iterator[bytes]:
    """Yield the stored bytes of a page, and verify its checksum at the end where it has one."""
    crc = 0
    for at in range(page.start, page.stop, PIECE_BYTES):
        piece = source.read_at(min(PIECE_BYTES, page.stop - at), at)
        if page.crc is not None:
            crc = zlib.crc32(piece, crc)
        yield piece
    if page.crc is not None and crc != page.crc:
        raise pa.ArrowInvalid("a page's checksum is wrong")


def _run_lengths(content: ByteStream, width: int, count: int) -> Iterator[int]:
    """Yield `count` numbers of `width` bits: runs of one number, and packed groups of eight.

    Source: https://parquet.apache.org/docs/file-format/data-pages/encodings/
    """
    size, mask = (width + 7) // 8, (1 << width) - 1
    while count > 0:
        head = content.varint()
        if head & 1:
            for _ in range(head >> 1):
                packed = int.from_bytes(content.read(width), "little")
                group = [packed >> width * place & mask for place in range(8)]
                yield from group[:count]
                count -= 8
                if count <= 0:
                    return
        else:
            value = int.from_bytes(content.read(size), "little")
            yield from repeat(value, min(head >> 1, count))
            count -= head >> 1
            if not head:
                raise pa.ArrowInvalid("a page has an empty run of levels")
