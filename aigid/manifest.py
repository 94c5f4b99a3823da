"""A manifest of image-prompt pairs: find its Parquet files and columns, and read runs of rows."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.bounded_map import bounded_map
from aigid.errors import AigidError, ManifestError
from aigid.manifest_files import ManifestFile, ManifestFiles, check_unchanged, read_footer
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

_BY_CONTENT = ("image", "img", "image_bytes", "image_data", "jpg", "png")
_BY_NAME = (
    "image_path",
    "image_file",
    "file_name",
    "filename",
    "file_path",
    "filepath",
    "path",
    "image_url",
    "url",
    "uri",
)
IMAGE_NAMES = (*_BY_CONTENT, *_BY_NAME)
PROMPT_NAMES = ("prompt", "caption", "text", "description", "txt")

# Rows in a read: enough to tokenize in bulk, and few enough that encoded images need little memory.
READ_ROWS = 128
# Each thread only waits for two requests, if the files are in an object store.
_FOOTER_THREADS = 64


@dataclass(frozen=True)
class Columns:
    """The columns that a scan reads. `prompt` is None if the manifest has no prompts.

    The columns of `keep` are copied to the results.
    """

    image: str
    prompt: str | None
    keep: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all columns, each once."""
        return list(
            dict.fromkeys([self.image, *([self.prompt] if self.prompt else []), *self.keep])
        )


@dataclass(frozen=True)
class ColumnChoice:
    """The user's choice of columns. None means the first column that has a usual name."""

    image: str | None = None
    prompt: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment:
    """The rows from `start` up to `stop` of one of the manifest's files."""

    file: ManifestFile
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """The number of rows in the segment."""
        return self.stop - self.start


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
        first = next(listed)
        file, schema = read_footer(first)
        manifest = Manifest(
            ManifestFiles([file]), _resolve_columns(schema, file.path, choice), schema
        )
        _check_columns(schema, file.path, manifest)
        files = _first_rows(chain([file], _read_footers(listed, manifest, known)), limit)
        manifest = replace(manifest, files=ManifestFiles(files))
    if manifest.rows == 0:
        raise ManifestError(f"{', '.join(map(without_query, paths))}: the manifest has no rows")
    return manifest


def read_segment(manifest: Manifest, segment: Segment) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment in order, at most READ_ROWS at a time, in the manifest's columns.

    Raises AigidError if the file is damaged, or has changed since the manifest was opened.
    """
    file = segment.file
    location = locate(file.uri)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            check_unchanged(source, file)
            # Without pre-buffering, a row group of large images is streamed, not held in memory.
            parquet = pq.ParquetFile(source, pre_buffer=not location.is_local, buffer_size=1 << 20)
            yield from _slice_rows(parquet, manifest.columns.names, segment)
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
            yield pq.ParquetFile(source, pre_buffer=not location.is_local)
    except (pa.ArrowException, OSError) as error:
        raise AigidError(
            f"{file.path}: cannot be read: {explain_failure(error, location)}"
        ) from error


def texts(column: pa.Array) -> list[str | None]:
    """Return a string column as Python strings, with replacement characters for invalid UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return [None] * len(column)
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "replace") for value in raw]


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
        file, schema = read_footer(now)
        _check_columns(schema, file.path, manifest)
        return file

    return bounded_map(read, ((file, next(recorded, None)) for file in listed), _FOOTER_THREADS)


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


def _resolve_columns(schema: pa.Schema, path: str, choice: ColumnChoice) -> Columns:
    image = choice.image or _find_usual(schema, IMAGE_NAMES)
    if image is None:
        raise ManifestError(
            f"{path}: no column has a usual name for images ({', '.join(IMAGE_NAMES)}, in any "
            f"case); name it with `image_column`; the columns are {', '.join(schema.names)}"
        )
    prompt = choice.prompt or _find_usual(schema, PROMPT_NAMES)
    return Columns(image, prompt, tuple(dict.fromkeys(choice.keep)))


def _find_usual(schema: pa.Schema, names: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(schema.names)}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _check_columns(schema: pa.Schema, path: str, manifest: Manifest) -> None:
    """Raise ManifestError if a file lacks a column, or has it in a type that cannot be read."""
    columns = manifest.columns
    for name in columns.names:
        if schema.names.count(name) != 1:
            problem = "no column" if name not in schema.names else "more than one column"
            raise ManifestError(
                f"{path}: {problem} named {name}; the columns are {', '.join(schema.names)}"
            )
    image = schema.field(columns.image).type
    if not _is_image_type(image):
        raise ManifestError(
            f"{path}: column {columns.image} is {image}; an image column holds encoded bytes, "
            "struct<bytes, path>, or a path"
        )
    if columns.prompt and not (
        _is_text(schema.field(columns.prompt).type)
        or pa.types.is_null(schema.field(columns.prompt).type)
    ):
        raise ManifestError(
            f"{path}: column {columns.prompt} is {schema.field(columns.prompt).type}; "
            "a prompt column holds strings"
        )
    for name in columns.keep:
        wanted, found = manifest.schema.field(name).type, schema.field(name).type
        if found != wanted:
            raise ManifestError(
                f"{path}: column {name} is {found}, but {wanted} in {manifest.files[0].path}"
            )


def _is_image_type(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        parts = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        usable = [name for name in ("bytes", "path") if name in parts]
        return bool(usable) and all(
            _is_bytes(parts[name]) or _is_text(parts[name]) for name in usable
        )
    return _is_bytes(kind) or _is_text(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_null(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _slice_rows(
    parquet: pq.ParquetFile, names: list[str], segment: Segment
) -> Iterator[pa.RecordBatch]:
    row = 0
    for index in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(index).num_rows
        if row + rows > segment.start and row < segment.stop:
            # One row group at a time: a reader holds what it read ahead from an object store until
            # it has read all of its row groups.
            batches = parquet.iter_batches(
                READ_ROWS, row_groups=[index], columns=names, use_threads=False
            )
            yield from _slice_batches(batches, segment.start - row, segment.stop - row)
        row += rows


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
