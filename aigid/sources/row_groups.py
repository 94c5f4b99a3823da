"""Row groups of a Parquet file, read in batches that need little memory whatever the rows."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.sources.cell_types import is_bytes, is_text
from aigid.sources.files import READ_ROWS
from aigid.sources.footer import ColumnChunk, column_chunks
from aigid.sources.large_columns import LargeColumn, LargeValues, is_readable
from aigid.sources.page_headers import Page, PageKind, pages_of

# Bytes of a column in a read, where rows are large.
_READ_BYTES = 32 << 20
# PyArrow reads whole pages: several copies of one must not matter.
_PAGE_BYTES = 16 << 20
# The same where there is no other way to read a column.
_MOST_PAGE_BYTES = 128 << 20
# A file in an object store is read ahead by row groups of up to this size.
_MOST_AHEAD_BYTES = 256 << 20
# The dictionary of a usual writer has 1 MiB: its values come READ_ROWS at a time.
_DICTIONARY_SHARE = READ_ROWS << 20


@dataclass(frozen=True)
class Leaf:
    """A leaf column of the file's schema: `number` there, and the column `name` that it is of."""

    number: int
    path: str
    name: str


class RowGroups:
    """Reads columns of an open Parquet file, row group by row group.

    A longer value of the columns in `cuts` may be cut at so many bytes.
    """

    def __init__(
        self,
        source: pa.NativeFile,
        footer: bytes,
        names: Sequence[str],
        cuts: Mapping[str, int],
        *,
        is_local: bool,
    ) -> None:
        self._source, self._names, self._cuts, self._is_local = source, names, cuts, is_local
        metadata = pq.read_metadata(pa.BufferReader(footer))
        self._chunks = column_chunks(footer, metadata)
        self._leaves = leaves_of(metadata.schema, names)
        # Without reading ahead, a row group of large images is streamed, not held in memory.
        largest = max(map(self._stored_bytes, self._chunks), default=0)
        ahead = not is_local and largest <= _MOST_AHEAD_BYTES
        self._file = pq.ParquetFile(
            source,
            metadata=metadata,
            pre_buffer=ahead,
            buffer_size=1 << 20 if is_local else 8 << 20,
            page_checksum_verification=True,
        )

    @property
    def rows(self) -> list[int]:
        """The number of rows in each row group."""
        metadata = self._file.metadata
        return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]

    def read(self, index: int, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows from `start` up to `stop` of a row group.

        Raises pyarrow.ArrowException or OSError where they are damaged, or need too much memory.
        """
        large, rows = self._measure(self._chunks[index])
        if large:
            yield from self._read_large(index, large, start, stop)
            return
        # One row group at a time: a reader holds what it read ahead from an object store until
        # it has read all of its row groups.
        yield from _slice_batches(self._batches(index, rows, self._names), start, stop)

    def _stored_bytes(self, group: Sequence[ColumnChunk]) -> int:
        return sum(group[leaf.number].compressed_bytes for leaf in self._leaves)

    def _measure(self, group: Sequence[ColumnChunk]) -> tuple[list[Leaf], int]:
        """Return the leaves to be read value by value, and the rows in a read of the others."""
        large, rows = [], READ_ROWS
        for leaf in self._leaves:
            chunk = group[leaf.number]
            known = self._known_pages(chunk)
            largest = max((page.size for page in known), default=0)
            streamed = not self._is_local and chunk.compressed_bytes > _MOST_AHEAD_BYTES
            if (largest > _PAGE_BYTES or streamed) and self._is_readable(leaf, chunk):
                large.append(leaf)
                continue
            if largest > _MOST_PAGE_BYTES:
                raise pa.ArrowInvalid(
                    f"a page of column {leaf.path} has {largest >> 20} MiB, too much to be read at "
                    f"once, and {chunk.compression} with {', '.join(chunk.encodings)} cannot be "
                    "read in parts: write the file anew with smaller row groups"
                )
            for page in known:
                if page.kind == PageKind.DICTIONARY:
                    rows = min(rows, _DICTIONARY_SHARE // max(page.size, 1))
                elif page.size > _READ_BYTES // READ_ROWS:
                    rows = min(rows, _READ_BYTES * page.values // page.size)
        return large, max(rows, 1)

    def _known_pages(self, chunk: ColumnChunk) -> list[Page]:
        """Return the pages whose headers are worth their reading."""
        pages = pages_of(self._source, chunk)
        if self._is_local:
            return list(pages)
        # Each is a request to an object store: only the first ones, and not of small columns.
        small = _DICTIONARY_SHARE // READ_ROWS if chunk.dictionary_page_offset else _PAGE_BYTES
        return list(islice(pages, 2)) if chunk.bytes > small else []

    def _is_readable(self, leaf: Leaf, chunk: ColumnChunk) -> bool:
        kind = self._file.schema_arrow.field(leaf.name).type
        if leaf.path != leaf.name:
            if not pa.types.is_struct(kind):
                return False
            child = leaf.path.removeprefix(f"{leaf.name}.")
            if kind.get_field_index(child) < 0:
                return False
            kind = kind.field(child).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_usable = is_bytes(kind) or is_text(kind)
        return is_usable and is_readable(chunk, self._file.schema.column(leaf.number))

    def _read_large(
        self, index: int, large: Sequence[Leaf], start: int, stop: int
    ) -> Iterator[pa.RecordBatch]:
        others = [leaf.path for leaf in self._leaves if leaf not in large]
        rest = _Rest(self._batches(index, READ_ROWS, others) if others else ())
        rest.skip(start)
        with ExitStack() as opened:
            columns = {
                leaf.path: opened.enter_context(closing(self._open(index, leaf))) for leaf in large
            }
            for column in columns.values():
                column.skip(start)
            while start < stop:
                count = _read_some(columns.values(), stop - start)
                start += count
                found = rest.take(count)
                values = {path: column.take() for path, column in columns.items()}
                arrays = [self._assemble(name, values, found) for name in self._names]
                yield pa.RecordBatch.from_arrays(arrays, list(self._names))
            for column in columns.values():
                column.finish_page()

    def _batches(self, index: int, rows: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        batches: Iterator[pa.RecordBatch] = self._file.iter_batches(
            rows, row_groups=[index], columns=names, use_threads=False
        )
        return batches

    def _open(self, index: int, leaf: Leaf) -> LargeColumn:
        chunk = self._chunks[index][leaf.number]
        column = self._file.schema.column(leaf.number)
        return LargeColumn(self._source, chunk, column, self._cuts.get(leaf.name))

    def _assemble(self, name: str, values: Mapping[str, LargeValues], rest: pa.Table) -> pa.Array:
        """Return a column from the values that were read one by one, and the rest."""
        field = self._file.schema_arrow.field(name)
        if name in values:
            return _converted(values[name].values, field.type)
        parts = [path for path in values if path.startswith(f"{name}.")]
        if not parts:
            return rest.column(name).combine_chunks()
        children = []
        for child in (field.type.field(number) for number in range(field.type.num_fields)):
            path = f"{name}.{child.name}"
            children.append(
                _converted(values[path].values, child.type)
                if path in values
                else rest.column(name).combine_chunks().field(child.name)
            )
        null = pa.array([field.nullable and level == 0 for level in values[parts[0]].levels])
        return pa.StructArray.from_arrays(children, fields=list(field.type), mask=null)


def _read_some(columns: Collection[LargeColumn], rows: int) -> int:
    """Read rows of some columns until they are enough for a batch; return how many."""
    count = 0
    while count < min(READ_ROWS, rows) and sum(column.size for column in columns) < _READ_BYTES:
        for column in columns:
            column.read_row()
        count += 1
    return count


class _Rest:
    """The rows of batches, as many at a time as they are asked for."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = iter(batches)
        self._waiting: pa.RecordBatch | None = None

    def skip(self, rows: int) -> None:
        for _ in self._parts(rows):
            pass

    def take(self, rows: int) -> pa.Table:
        """Return the next rows; an empty table where there are no columns."""
        parts = list(self._parts(rows))
        return pa.Table.from_batches(parts) if parts else pa.table({})

    def _parts(self, rows: int) -> Iterator[pa.RecordBatch]:
        while rows:
            if not self._waiting:
                self._waiting = next(self._batches, None)
                if self._waiting is None:
                    return
            part = self._waiting.slice(0, rows)
            self._waiting = self._waiting.slice(len(part))
            rows -= len(part)
            yield part


def leaves_of(schema: pq.ParquetSchema, names: Sequence[str]) -> list[Leaf]:
    """Return the leaves of some columns."""
    paths = [schema.column(number).path for number in range(len(schema))]
    return [
        Leaf(number, path, name)
        for number, path in enumerate(paths)
        for name in names
        if path == name or (path.startswith(f"{name}.") and path not in names)
    ]


def _converted(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return large_binary values in the type of their column, without looking at their bytes."""
    if pa.types.is_dictionary(kind):
        return _converted(values, kind.value_type).dictionary_encode().cast(kind)
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        values = values.view(pa.large_string()) if "string" in str(kind) else values
    return values.cast(kind)


def _slice_batches(
    batches: Iterator[pa.RecordBatch], start: int, stop: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows from `start` up to `stop` of all batches, counted from 0."""
    row = 0
    for batch in batches:
        first, last = max(start - row, 0), min(stop - row, len(batch))
        row += len(batch)
        if last > first:
            yield batch.slice(first, last - first)
        if row >= stop:
            return
