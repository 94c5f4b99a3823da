"""Parquet files of a manifest: their identity, and exact reads of runs of rows."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.errors import AigidError, ManifestError
from aigid.sources.files import ManifestFile, Segment
from aigid.sources.footer import column_chunks, footer_bytes
from aigid.sources.kinds import Kind
from aigid.sources.refusals import changed, opening
from aigid.sources.row_groups import RowGroups, leaves_of
from aigid.storage import ListedFile, explain_failure, locate


def read_footer(listed: ListedFile, keep: Sequence[str] = ()) -> ManifestFile:
    """Return a Parquet file's identity and columns, and the sizes of those that are in `keep`.

    Raises ManifestError if the file is missing, is damaged or is not Parquet.
    """
    location = listed.location
    with opening(location), location.filesystem.open_input_file(location.path) as source:
        size = source.size()
        footer = footer_bytes(source, size, location.text)
    try:
        metadata = pq.read_metadata(pa.BufferReader(footer))
        # What writers note in a schema's metadata may differ from file to file.
        schema = metadata.schema.to_arrow_schema().remove_metadata()
        kept_bytes = _column_bytes(footer, metadata, keep) if keep else ()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{location.text}: not a readable Parquet file: {' '.join(str(error).split())}"
        ) from error
    groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    if min(groups, default=0) < 0 or sum(groups) != metadata.num_rows:
        counts = f"its row groups have {sum(groups)} rows, the file {metadata.num_rows}"
        raise ManifestError(f"{location.text}: not a readable Parquet file: {counts}")
    return ManifestFile(
        location.text,
        size,
        groups,
        _sha256(footer),
        listed.modified_ns,
        location.hidden_query,
        Kind.PARQUET,
        schema,
        kept_bytes=kept_bytes,
    )


def read_parquet(
    segment: Segment, names: Sequence[str], cuts: Mapping[str, int] = {}
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment in order, at most READ_ROWS at a time, in these columns.

    Large rows come a few at a time. A longer value of the columns in `cuts` may be cut at so many
    bytes. The checksums of pages are verified where there are any.

    Raises AigidError if the file is damaged, or has changed since the manifest was opened.
    """
    file = segment.file
    location = locate(file.uri)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            footer = _unchanged_footer(source, file)
            groups, row = RowGroups(source, footer, names, cuts, is_local=location.is_local), 0
            end = file.rows if segment.stop is None else segment.stop
            for index, rows in enumerate(groups.rows):
                if row + rows > segment.start and row < end:
                    start, stop = max(segment.start - row, 0), min(end - row, rows)
                    yield from groups.read(index, start, stop)
                row += rows
    except (pa.ArrowException, OSError) as error:
        where = f"{file.path}, rows {segment.start} to {segment.stop}"
        raise AigidError(
            f"{where}: cannot be read: {explain_failure(error, location)}; "
            "repair or replace the file, then run the scan again"
        ) from error


@contextmanager
def opened(file: ManifestFile) -> Iterator[pq.ParquetFile]:
    """Open a file of a manifest, to read narrow columns of it.

    Raises AigidError where the file cannot be opened, or cannot be read within the block.
    """
    location = locate(file.uri)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            yield pq.ParquetFile(
                source, pre_buffer=not location.is_local, page_checksum_verification=True
            )
    except (pa.ArrowException, OSError) as error:
        raise AigidError(
            f"{file.path}: cannot be read: {explain_failure(error, location)}"
        ) from error


def _unchanged_footer(source: pa.NativeFile, file: ManifestFile) -> bytes:
    """Return the footer of an open file.

    Raises AigidError if the file is not the same as when the manifest was opened.
    """
    try:
        size = source.size()
        footer = footer_bytes(source, size, file.path)
    except ManifestError:
        size, footer = -1, b""
    if (size, _sha256(footer)) != (file.size_bytes, file.digest):
        raise changed(file)
    return footer


def _column_bytes(
    footer: bytes, metadata: pq.FileMetaData, names: Sequence[str]
) -> tuple[int, ...]:
    """Return the bytes that these columns have in each row group, without compression."""
    leaves = [leaf.number for leaf in leaves_of(metadata.schema, names)]
    return tuple(
        sum(group[leaf].bytes for leaf in leaves) for group in column_chunks(footer, metadata)
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
