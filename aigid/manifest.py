"""A manifest of image-prompt pairs: find its files and columns, and read runs of rows."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

import pyarrow as pa

from aigid.bounded_map import bounded_map
from aigid.errors import ManifestError
from aigid.sources import (
    ColumnChoice,
    Columns,
    ManifestFile,
    ManifestFiles,
    Segment,
    check_columns,
    read_footer,
    read_parquet,
    resolve_columns,
)
from aigid.storage import (
    ListedFile,
    exists,
    explain_absence,
    explain_failure,
    has_glob,
    list_parquet,
    locate,
    without_query,
)

# Each thread only waits for two requests, if the files are in an object store.
_FOOTER_THREADS = 64


@dataclass(frozen=True)
class Manifest:
    """The files of a manifest in order, the columns to read, and the schema of the first file."""

    files: ManifestFiles
    columns: Columns
    schema: pa.Schema

    @property
    def keep_schema(self) -> pa.Schema:
        """The schema of the columns that are copied to the results.

        It has no nullability and no metadata, because these may differ from file to file.
        """
        return pa.schema(
            [pa.field(name, self.schema.field(name).type) for name in self.columns.keep]
        )

    @property
    def rows(self) -> int:
        """The number of rows in all files."""
        return self.files.rows

    def without_files(self) -> "Manifest":
        """Return the manifest for a worker process, which gets the files with each shard."""
        return replace(self, files=ManifestFiles())

    def kept(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns of `rows` that are copied to the results, in `keep_schema`."""
        return pa.RecordBatch.from_arrays(
            [rows.column(name) for name in self.columns.keep], schema=self.keep_schema
        )


def open_manifest(
    paths: Sequence[str],
    choice: ColumnChoice = ColumnChoice(),
    *,
    known: ManifestFiles | None = None,
    limit: int | None = None,
) -> Manifest:
    """Find the files of all `paths` (files, folders, globs, URIs), read footers, resolve columns.

    Two kinds of footers are not read: those of files beyond the first `limit` rows, and those of
    files with the path, size and modification time that an earlier scan recorded in `known`.

    Raises ManifestError if a path is missing, is not Parquet or has no rows; if a file lacks a
    column or has it in a wrong type; and if a file is given twice, because a scan reads every row
    once.
    """
    with closing(_list_files(paths)) as listed:
        file = read_footer(next(listed))
        columns = resolve_columns(file.schema, file.path, choice)
        check_columns(file.schema, file.path, columns)
        manifest = Manifest(ManifestFiles([file]), columns, file.schema)
        files = _first_rows(chain([file], _read_footers(listed, manifest, known)), limit)
        manifest = replace(manifest, files=ManifestFiles(files))
    if manifest.rows == 0:
        raise ManifestError(f"{', '.join(map(without_query, paths))}: the manifest has no rows")
    return manifest


def read_segment(manifest: Manifest, segment: Segment) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment in order, at most READ_ROWS at a time, in the manifest's columns.

    Raises AigidError if the file is damaged, or has changed since the manifest was opened.
    """
    return read_parquet(segment, manifest.columns.names)


def _list_files(paths: Sequence[str]) -> Generator[ListedFile, None, None]:
    """Yield the files of all paths. Several paths are checked for a file that is given twice."""
    seen: set[str] = set()
    for path in paths:
        location, found = locate(path), False
        try:
            for file in list_parquet(location):
                found = True
                if len(paths) > 1:
                    if file.location.uri in seen:
                        raise ManifestError(
                            f"{file.location.text}: given twice, but a scan reads every row once: "
                            "give it once"
                        )
                    seen.add(file.location.uri)
                yield file
        except OSError as error:
            raise ManifestError(
                f"{without_query(path)}: cannot be listed: {explain_failure(error, location)}"
            ) from error
        if not found:
            empty = exists(location) or has_glob(location)
            raise ManifestError(
                f"{without_query(path)}: "
                f"{'no Parquet file there' if empty else explain_absence(location)}"
            )


def _read_footers(
    listed: Iterator[ListedFile], manifest: Manifest, known: ManifestFiles | None
) -> Iterator[ManifestFile]:
    """Yield the identity of each file after the first, and check its columns against the first."""
    recorded = iter(known or ())
    next(recorded, None)

    def read(pair: tuple[ListedFile, ManifestFile | None]) -> ManifestFile:
        now, before = pair
        if before is not None and _is_unmodified(now, before):
            return replace(before, query=now.location.hidden_query)
        file = read_footer(now)
        check_columns(file.schema, file.path, manifest.columns)
        _check_kept(file, manifest)
        return file

    return bounded_map(read, ((file, next(recorded, None)) for file in listed), _FOOTER_THREADS)


def _check_kept(file: ManifestFile, manifest: Manifest) -> None:
    """Raise ManifestError if a kept column has another type than in the first file."""
    for name in manifest.columns.keep:
        wanted, found = manifest.schema.field(name).type, file.schema.field(name).type
        if found != wanted:
            raise ManifestError(
                f"{file.path}: column {name} is {found}, but {wanted} in {manifest.files[0].path}"
            )


def _is_unmodified(now: ListedFile, before: ManifestFile) -> bool:
    """Return whether a listed file has the recorded path, size and modification time."""
    facts = (before.path, before.size_bytes, before.modified_ns)
    return before.modified_ns is not None and facts == (
        now.location.text,
        now.size_bytes,
        now.modified_ns,
    )


def _first_rows(files: Iterator[ManifestFile], limit: int | None) -> Iterator[ManifestFile]:
    """Yield the files that hold the first `limit` rows."""
    rows = 0
    for file in files:
        yield file
        rows += file.rows
        if limit is not None and rows >= limit:
            return
