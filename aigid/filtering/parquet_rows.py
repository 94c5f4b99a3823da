"""Rows of Parquet files as a Parquet file of the same schema."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.errors import UsageError
from aigid.filtering.row_mask import RowMask
from aigid.sources import ManifestFile, Segment, opened, read_rows

# Rows are held until they are a row group.
_GROUP_BYTES, _GROUP_ROWS = 32 << 20, 1 << 17
# A row group of this size at most is read at once, which is faster.
_WHOLE_BYTES = 32 << 20


class ParquetRows:
    """Writes rows of Parquet files, which have the same columns, into one."""

    def __init__(self, path: Path) -> None:
        self._path, self._first = path, ""
        self._writer: pq.ParquetWriter | None = None
        self._schema = pa.schema([])
        self._waiting: list[pa.Table] = []
        self._bytes = self._rows = 0

    def add(self, files: list[ManifestFile], mask: RowMask) -> None:
        """Write rows of a file. Raises UsageError where its columns are not those of the others."""
        (file,) = files
        with opened(file) as parquet:
            self._begin(file, parquet)
            for table in _tables(file, parquet, mask):
                self._write(table)

    def close(self) -> None:
        """Write what waits, and end the file."""
        if self._writer is not None:
            self._flush()
            self._writer.close()

    def _begin(self, file: ManifestFile, parquet: pq.ParquetFile) -> None:
        schema = parquet.schema_arrow
        if self._writer is None:
            self._schema, self._first = schema, file.path
            self._writer = pq.ParquetWriter(
                self._path,
                schema,
                compression=_compressions(parquet.metadata),
                write_page_checksum=True,
            )
        elif not schema.equals(self._schema):
            raise UsageError(
                f"`out`: the columns of {file.path} are not those of {self._first}: give a folder, "
                "which gets a file for each"
            )

    def _write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._bytes += table.nbytes
        self._rows += len(table)
        if self._bytes >= _GROUP_BYTES or self._rows >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting and self._writer is not None:
            table = pa.concat_tables(self._waiting).unify_dictionaries()
            self._writer.write_table(table, row_group_size=max(1, len(table)))
        self._waiting, self._bytes, self._rows = [], 0, 0


def _tables(file: ManifestFile, parquet: pq.ParquetFile, mask: RowMask) -> Iterator[pa.Table]:
    """Yield the rows to write, some at a time; row groups without any are not read."""
    schema, start = parquet.schema_arrow, 0
    # It also finds that the file has changed since the scan.
    for _ in read_rows(Segment(file, 0, 0), schema.names):
        pass
    for index, rows in enumerate(file.row_groups):
        wanted = mask.take(rows)
        if not wanted.any():
            start += rows
            continue
        if parquet.metadata.row_group(index).total_byte_size <= _WHOLE_BYTES:
            found = parquet.read_row_group(index).filter(pa.array(wanted))
            yield found
        else:
            position = 0
            for batch in read_rows(Segment(file, start, start + rows), schema.names):
                part = wanted[position : position + len(batch)]
                position += len(batch)
                if part.any():
                    batch = batch.filter(pa.array(part))
                    yield pa.Table.from_batches([batch.cast(schema.remove_metadata())]).cast(schema)
        start += rows


def _compressions(metadata: pq.FileMetaData) -> dict[str, str] | str:
    """Return how the columns are compressed in a file, by their paths."""
    if not metadata.num_row_groups:
        return "zstd"
    group = metadata.row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    return {
        column.path_in_schema: column.compression.lower().replace("uncompressed", "none")
        for column in columns
    }
