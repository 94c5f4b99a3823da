"""The files of a manifest, whatever their kind: their identity, and their rows."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from aigid.sources.files import ManifestFile, Segment
from aigid.sources.image_folder import read_run
from aigid.sources.kinds import Kind
from aigid.sources.parquet import read_footer, read_parquet
from aigid.sources.tars import identify_tar, read_tar
from aigid.sources.text_tables import index_table, read_table
from aigid.storage import ListedFile


def identify(kind: Kind, listed: ListedFile, keep: Sequence[str] = ()) -> ManifestFile:
    """Return a file's identity and columns, and the sizes of those in `keep`.

    Raises ManifestError if it cannot be read as such.
    """
    if kind is Kind.PARQUET:
        return read_footer(listed, keep)
    if kind is Kind.TAR:
        return identify_tar(listed)
    return index_table(kind, listed)


def read_rows(
    segment: Segment, names: list[str], cuts: Mapping[str, int] = {}
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment in order, at most READ_ROWS at a time, in these columns.

    A longer value of the columns in `cuts` may be cut at so many bytes.

    Raises AigidError if the file is damaged, or has changed since the manifest was opened.
    """
    kind = segment.file.kind
    if kind is Kind.PARQUET:
        return read_parquet(segment, names, cuts)
    if kind is Kind.TAR:
        return read_tar(segment, names)
    if kind is Kind.IMAGES:
        return read_run(segment, names)
    return read_table(segment, names)


def read_whole(file: ManifestFile) -> pa.Table:
    """Return all rows and columns of a small file."""
    batches = read_rows(Segment(file, 0, file.rows), file.schema.names)
    return pa.Table.from_batches(batches, schema=file.schema.remove_metadata())
