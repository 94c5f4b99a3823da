"""The files of a manifest, whatever their kind: their identity, and their rows."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow as pa

from aigid.sources.files import ManifestFile, Segment
from aigid.sources.image_folder import read_run
from aigid.sources.kinds import Kind
from aigid.sources.parquet import read_footer, read_parquet
from aigid.sources.refusals import unchanged
from aigid.sources.retries import read_on, tried_again
from aigid.sources.tars import identify_tar, read_tar
from aigid.sources.text_tables import index_table, read_table
from aigid.storage import ListedFile, locate


def identify(kind: Kind, listed: ListedFile, keep: Sequence[str] = ()) -> ManifestFile:
    """Return a file's identity and columns, and the sizes of those in `keep`.

    Raises ManifestError if it cannot be read as such.
    """
    if kind is Kind.PARQUET:
        read = partial(read_footer, listed, keep)
    elif kind is Kind.TAR:
        read = partial(identify_tar, listed)
    else:
        read = partial(index_table, kind, listed)
    return tried_again(read, listed.location)


def read_rows(
    segment: Segment, names: list[str], cuts: Mapping[str, int] = {}
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment in order, at most READ_ROWS at a time, in these columns.

    A longer value of the columns in `cuts` may be cut at so many bytes.

    Raises AigidError if the file is damaged, or has changed since the manifest was opened.
    """
    return read_on(partial(_rows, names, cuts), segment, locate(segment.file.uri))


def _rows(names: list[str], cuts: Mapping[str, int], segment: Segment) -> Iterator[pa.RecordBatch]:
    kind = segment.file.kind
    if kind is Kind.IMAGES:
        yield from read_run(segment, names)
    elif kind is Kind.PARQUET or kind is Kind.TAR:
        with unchanged(segment.file, locate(segment.file.uri)):
            if kind is Kind.PARQUET:
                yield from read_parquet(segment, names, cuts)
            else:
                yield from read_tar(segment, names)
    else:
        # The checksums of its blocks tell.
        yield from read_table(segment, names)


def read_whole(file: ManifestFile) -> pa.Table:
    """Return all rows and columns of a small file."""
    batches = read_rows(Segment(file, 0, file.rows), file.schema.names)
    return pa.Table.from_batches(batches, schema=file.schema.remove_metadata())
