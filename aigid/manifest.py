"""A manifest of image-prompt pairs: find its files and columns, and read runs of rows."""

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain

import pyarrow as pa

from aigid.bounded_map import bounded_map
from aigid.errors import ManifestError
from aigid.pixels import DecodeLimits
from aigid.prompts import MAX_CHARACTERS
from aigid.sources import (
    ColumnChoice,
    Columns,
    FoundFile,
    Kind,
    ManifestFile,
    ManifestFiles,
    OnNote,
    Segment,
    check_columns,
    count_rows,
    find_sources,
    identify,
    read_rows,
    resolve_columns,
)
from aigid.storage import ListedFile, Location, locate, without_query

# Each thread only waits for two requests, if the files are in an object store.
_THREADS = 64
# What the scan makes use of at most: an image above the limit is `too_large` whatever its size (as
# base64 it has 4 characters for 3 bytes), and no character of a prompt has more than 4 bytes.
_MOST_IMAGE_BYTES = 2 * DecodeLimits().max_bytes
_MOST_PROMPT_BYTES = 4 * MAX_CHARACTERS


@dataclass(frozen=True)
class Manifest:
    """The files of a manifest in order, the columns to read, and the schema of the first file.

    `notes` are lines that a person must see: what of the paths is not scanned as one might expect.
    """

    files: ManifestFiles
    columns: Columns
    schema: pa.Schema
    notes: tuple[str, ...] = ()

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
        """The number of rows in all files, as far as it is known."""
        return self.files.rows

    def without_files(self) -> "Manifest":
        """Return the manifest for a worker process, which gets the files with each shard."""
        return replace(self, files=ManifestFiles())

    def kept(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns of `rows` that are copied to the results, in `keep_schema`."""
        return pa.RecordBatch.from_arrays(
            [rows.column(name) for name in self.columns.keep], schema=self.keep_schema
        )


def image_root(file: ManifestFile) -> Location | None:
    """Return the folder that the images of a file are relative to; None where that is not known."""
    return locate(file.uri) if file.kind is Kind.IMAGES else None


def open_manifest(
    paths: Sequence[str],
    choice: ColumnChoice = ColumnChoice(),
    *,
    known: ManifestFiles | None = None,
    limit: int | None = None,
) -> Manifest:
    """Find the files of all `paths` (files, folders, globs, URIs), identify them, resolve columns.

    Two kinds of files are not read: those beyond the first `limit` rows, and those with the path,
    size and modification time that an earlier scan recorded in `known`.

    Raises ManifestError if a path is missing, is no manifest or has no rows; if a file lacks a
    column or has it in a wrong type; and if a file is given twice, because a scan reads every row
    once.
    """
    notes: list[str] = []
    with closing(_find(paths, notes.append)) as found:
        first = next(found)
        file = (
            identify(first.kind, first.file, choice.keep)
            if isinstance(first, FoundFile)
            else first
        )
        columns = resolve_columns(file.schema, file.path, choice)
        check_columns(file.schema, file.path, columns)
        manifest = Manifest(ManifestFiles([file]), columns, file.schema)
        files = _first_rows(chain([file], _identify_rest(found, manifest, known)), limit)
        manifest = replace(manifest, files=ManifestFiles(_placed(files)), notes=tuple(notes))
    if manifest.rows == 0 and all(file.has_known_rows for file in manifest.files):
        raise ManifestError(f"{', '.join(map(without_query, paths))}: the manifest has no rows")
    return manifest


def open_parquet(
    paths: Sequence[str],
    choice: ColumnChoice = ColumnChoice(),
    *,
    known: ManifestFiles | None = None,
    limit: int | None = None,
) -> Manifest:
    """Open a manifest of Parquet files, for what reads other columns of them as well.

    Raises ManifestError as `open_manifest` does, and where it has files of another kind.
    """
    manifest = open_manifest(paths, choice, known=known, limit=limit)
    other = next((file for file in manifest.files if file.kind is not Kind.PARQUET), None)
    if other is not None:
        raise ManifestError(
            f"{other.path}: labelled rows are read from Parquet files only, and this is of the "
            f"kind {other.kind.value}: convert it, for example with pandas or DuckDB"
        )
    return manifest


def read_segment(manifest: Manifest, segment: Segment) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment in order, at most READ_ROWS at a time, in the manifest's columns.

    Raises AigidError if the file is damaged, or has changed since the manifest was opened.
    """
    columns = manifest.columns
    cuts = {columns.image: _MOST_IMAGE_BYTES, columns.prompt or "": _MOST_PROMPT_BYTES}
    unused = {name: most for name, most in cuts.items() if name and name not in columns.keep}
    return read_rows(segment, columns.names, unused)


def _find(paths: Sequence[str], on_note: OnNote) -> Generator[FoundFile | ManifestFile, None, None]:
    """Yield the files of all paths. Several paths are checked for a file that is given twice."""
    seen: set[str] = set()
    for path in paths:
        for found in find_sources(path, on_note):
            if len(paths) > 1 and isinstance(found, FoundFile):
                location = found.file.location
                if location.uri in seen:
                    raise ManifestError(
                        f"{location.text}: given twice, but a scan reads every row once: "
                        "give it once"
                    )
                seen.add(location.uri)
            yield found


def _identify_rest(
    found: Iterator[FoundFile | ManifestFile], manifest: Manifest, known: ManifestFiles | None
) -> Iterator[ManifestFile]:
    """Yield the identity of each file after the first, and check its columns against the first."""
    recorded = iter(known or ())
    next(recorded, None)

    def of(pair: tuple[FoundFile | ManifestFile, ManifestFile | None]) -> ManifestFile:
        now, before = pair
        if isinstance(now, ManifestFile):
            return now
        if before is not None and _is_unmodified(now.file, before):
            return replace(before, query=now.file.location.hidden_query)
        file = identify(now.kind, now.file, manifest.columns.keep)
        check_columns(file.schema, file.path, manifest.columns)
        _check_kept(file, manifest)
        return file

    return bounded_map(of, ((one, next(recorded, None)) for one in found), _THREADS)


def _placed(files: Iterator[ManifestFile]) -> Iterator[ManifestFile]:
    """Yield the files; runs of images of one folder that is named twice go on with its rows."""
    rows: Counter[str] = Counter()
    for file in files:
        if file.kind is Kind.IMAGES:
            yield replace(file, first_row=rows[file.path])
            rows[file.path] += file.rows
        else:
            yield file


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
        if limit is not None and file.kind is Kind.TAR:
            file = replace(file, row_groups=(count_rows(file, limit - rows),))
        yield file
        rows += file.rows
        if limit is not None and rows >= limit:
            return
