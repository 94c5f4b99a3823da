"""A manifest of image-prompt pairs: find its files and columns, and read runs of rows."""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
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
    FileColumns,
    FoundFile,
    Kind,
    ManifestFile,
    ManifestFiles,
    OnNote,
    Segment,
    conformed,
    conforms,
    count_rows,
    find_sources,
    identify,
    locations_of,
    read_rows,
    resolve_columns,
)
from aigid.storage import GivenFiles, ListedFile, Location, locate, without_query

# Each thread only waits for two requests, if the files are in an object store.
_THREADS = 64
# What the scan makes use of at most: an image above the limit is `too_large` whatever its size (as
# base64 it has 4 characters for 3 bytes), and no character of a prompt has more than 4 bytes.
_MOST_IMAGE_BYTES = 2 * DecodeLimits().max_bytes
_MOST_PROMPT_BYTES = 4 * MAX_CHARACTERS


@dataclass(frozen=True)
class Manifest:
    """The files of a manifest in order, the columns to read, and the schema of the first file.

    In `schema`, kept columns have the types that they get in all files. Files may have the columns
    of images and prompts by other names than in `columns`; each file's own follow from `choice`.
    `notes` are lines that a person must see: what of the paths is not scanned as one might expect.
    """

    files: ManifestFiles
    columns: Columns
    schema: pa.Schema
    notes: tuple[str, ...] = ()
    choice: ColumnChoice = ColumnChoice()

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

    The columns are those of each file's own schema: a file may lack prompts, and have its images in
    a column of another name or type.

    Raises ManifestError if a path is missing, is no manifest or has no rows; if a file has no
    images, or lacks a kept column; if no type holds a kept column of all files; and if a file is
    given twice, perhaps by another name, because each row counts once.
    """
    notes, columns = list[str](), FileColumns(choice)
    with closing(_find(paths, notes.append)) as found:
        first = next(found)
        file = (
            identify(first.kind, first.file, choice.keep) if isinstance(first, FoundFile) else first
        )
        files = _first_rows(chain([file], _identify_rest(found, choice.keep, known)), limit)
        manifest_files = ManifestFiles(columns.watch(_placed(files)))
    manifest = Manifest(
        manifest_files,
        columns.columns(),
        _with_types(file.schema, columns.kept_types()),
        (*notes, *columns.notes()),
        choice,
    )
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

    Columns have the names and types that they have in all files; where the file has no prompts,
    they are null. Raises AigidError if the file is damaged, has changed since the manifest was
    opened, or has a kept value that does not fit the type that its column has in all files.
    """
    file, columns, kept = segment.file, manifest.columns, manifest.keep_schema
    own = resolve_columns(file.schema, file.path, manifest.choice)
    names = [name for name in own.names if name in file.schema.names]
    cuts = {own.image: _MOST_IMAGE_BYTES, own.prompt or "": _MOST_PROMPT_BYTES}
    unused = {name: most for name, most in cuts.items() if name and name not in own.keep}
    for rows in read_rows(segment, names, unused):
        if conforms(rows, own, columns, kept):
            yield rows
        else:
            yield conformed(rows, file, own, columns, kept)


def _find(paths: Sequence[str], on_note: OnNote) -> Generator[FoundFile | ManifestFile, None, None]:
    """Yield the files of all paths. Several paths are checked for a file that is given twice."""
    given, checked = GivenFiles(), set[str]()
    for number, path in enumerate(paths):
        for found in find_sources(path, on_note, checked):
            if len(paths) > 1:
                for location in locations_of(found):
                    given.add(location, number)
            yield found


def _identify_rest(
    found: Iterator[FoundFile | ManifestFile], keep: Sequence[str], known: ManifestFiles | None
) -> Iterator[ManifestFile]:
    """Yield the identity of each file after the first."""
    recorded = iter(known or ())
    next(recorded, None)

    def of(pair: tuple[FoundFile | ManifestFile, ManifestFile | None]) -> ManifestFile:
        now, before = pair
        if isinstance(now, ManifestFile):
            return now
        if before is not None and _is_unmodified(now.file, before):
            return replace(before, query=now.file.location.hidden_query)
        return identify(now.kind, now.file, keep)

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


def _with_types(schema: pa.Schema, types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema with these types of columns; one that it lacks is added."""
    for name, kind in types.items():
        place = schema.get_field_index(name)
        if place < 0:
            schema = schema.append(pa.field(name, kind))
        else:
            schema = schema.set(place, pa.field(name, kind))
    return schema


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
