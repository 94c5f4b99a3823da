"""A manifest of image-prompt pairs: find its Parquet files and columns, fingerprint them, read runs of rows."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
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
)

_BY_CONTENT = ("image", "img", "image_bytes", "jpg", "png")
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

# Rows read at a time: few enough that encoded images stay small in memory, enough to tokenize in bulk.
READ_ROWS = 128
# Each waits for two requests where files are in an object store, and does next to nothing itself.
_FOOTER_THREADS = 64


@dataclass(frozen=True)
class Columns:
    """The columns a scan reads: `prompt` is None for a manifest of images alone; `keep` ride along to the results."""

    image: str
    prompt: str | None
    keep: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        return list(
            dict.fromkeys([self.image, *([self.prompt] if self.prompt else []), *self.keep])
        )


@dataclass(frozen=True)
class ColumnChoice:
    """What the user says of columns; None leaves it to the usual names."""

    image: str | None = None
    prompt: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment:
    """A run of rows `start` to `stop` of one of the manifest's files."""

    file: ManifestFile
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows the run has."""
        return self.stop - self.start


@dataclass(frozen=True)
class Manifest:
    """The files of a manifest in order, the columns that are read, and the schema of its first file."""

    files: ManifestFiles
    columns: Columns
    schema: pa.Schema

    @property
    def keep_schema(self) -> pa.Schema:
        """The columns that ride along to the results; without nullability and notes, which may differ from file to file."""
        return pa.schema(
            [pa.field(name, self.schema.field(name).type) for name in self.columns.keep]
        )

    @property
    def rows(self) -> int:
        """How many rows all files have."""
        return self.files.rows

    def without_files(self) -> "Manifest":
        """The same for a process that is told of the files with each shard."""
        return replace(self, files=ManifestFiles())

    def kept(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Of some rows, the columns that ride along, in `keep_schema`."""
        return pa.RecordBatch.from_arrays(
            [rows.column(name) for name in self.columns.keep], schema=self.keep_schema
        )


def open_manifest(
    sources: Sequence[str],
    choice: ColumnChoice = ColumnChoice(),
    *,
    known: ManifestFiles | None = None,
    limit: int | None = None,
) -> Manifest:
    """Find the files of all `sources` (files, folders, globs, URIs), read their footers and settle the columns.

    Footers are read where they are needed: not of files beyond the first `limit` rows, nor of those that are as an earlier
    scan of the manifest, which has checked them, recorded in `known`: same place, size and time of modification.

    Raises ManifestError where a source is missing, is no Parquet, has no rows, or lacks a column or has it in a wrong type,
    and where a file is given twice, since every row is scanned once.
    """
    with closing(_listed(sources)) as listed:
        first = next(listed)
        file, schema = read_footer(first)
        manifest = Manifest(
            ManifestFiles([file]), _settle_columns(schema, file.path, choice), schema
        )
        _check_columns(schema, file.path, manifest)
        files = _first_rows(chain([file], _footers(listed, manifest, known)), limit)
        manifest = replace(manifest, files=ManifestFiles(files))
    if manifest.rows == 0:
        raise ManifestError(f"{', '.join(sources)}: the manifest has no rows")
    return manifest


def read_segment(manifest: Manifest, segment: Segment) -> Iterator[pa.RecordBatch]:
    """The rows of a segment in order, the manifest's columns only, a few at a time.

    Raises AigidError where the file is damaged or has changed since the manifest was opened.
    """
    file = segment.file
    location = locate(file.path)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            check_unchanged(source, file)
            # Without pre-buffering a row group of large images is streamed instead of held whole.
            parquet = pq.ParquetFile(source, pre_buffer=not location.is_local, buffer_size=1 << 20)
            yield from _slice_rows(parquet, manifest.columns.names, segment)
    except (pa.ArrowException, OSError) as error:
        where = f"{file.path}, rows {segment.start} to {segment.stop}"
        raise AigidError(
            f"{where}: cannot be read: {explain_failure(error, location)}; mend or replace the file, then run the scan again"
        ) from error


def read_columns(file: ManifestFile, names: list[str]) -> pa.Table:
    """Some columns of a whole file, for small columns; raises AigidError where the file cannot be read."""
    location = locate(file.path)
    try:
        return pq.read_table(location.path, filesystem=location.filesystem, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise AigidError(
            f"{file.path}: cannot be read: {explain_failure(error, location)}"
        ) from error


def texts(column: pa.Array) -> list[str | None]:
    """A string column as Python strings; bytes that are not UTF-8 become replacement characters instead of an error."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return [None] * len(column)
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "replace") for value in raw]


def _listed(sources: Sequence[str]) -> Generator[ListedFile, None, None]:
    """The files of all sources, as they are listed; the names are kept, to find one that is given twice, where that can be."""
    seen: set[str] = set()
    for source in sources:
        location, found = locate(source), False
        try:
            for file in list_parquet(location):
                found = True
                if len(sources) > 1:
                    if file.location.text in seen:
                        raise ManifestError(
                            f"{file.location.text}: given twice, but every row is scanned once: name it once"
                        )
                    seen.add(file.location.text)
                yield file
        except OSError as error:
            raise ManifestError(
                f"{source}: cannot be listed: {explain_failure(error, location)}"
            ) from error
        if not found:
            there = exists(location) or has_glob(location)
            raise ManifestError(
                f"{source}: {'no Parquet file there' if there else explain_absence(location)}"
            )


def _facts(file: ListedFile | ManifestFile) -> tuple[str, int, int | None]:
    path = file.path if isinstance(file, ManifestFile) else file.location.text
    return path, file.size_bytes, file.modified_ns


def _footers(
    listed: Iterator[ListedFile], manifest: Manifest, known: ManifestFiles | None
) -> Iterator[ManifestFile]:
    """What identifies each file after the first; its columns must be those of the first."""
    recorded = iter(known or ())
    next(recorded, None)

    def opened(pair: tuple[ListedFile, ManifestFile | None]) -> ManifestFile:
        one, before = pair
        if before is not None and before.modified_ns is not None and _facts(one) == _facts(before):
            return before
        file, schema = read_footer(one)
        _check_columns(schema, file.path, manifest)
        return file

    return bounded_map(opened, ((one, next(recorded, None)) for one in listed), _FOOTER_THREADS)


def _first_rows(files: Iterator[ManifestFile], limit: int | None) -> Iterator[ManifestFile]:
    """As many files as the first `limit` rows are in."""
    rows = 0
    for file in files:
        yield file
        rows += file.rows
        if limit is not None and rows >= limit:
            return


def _settle_columns(schema: pa.Schema, path: str, choice: ColumnChoice) -> Columns:
    image = choice.image or _usual(schema, IMAGE_NAMES)
    if image is None:
        raise ManifestError(
            f"{path}: no column looks like the image (one of {', '.join(IMAGE_NAMES)}, in any case); "
            f"name it with --image-column; the columns are {', '.join(schema.names)}"
        )
    prompt = choice.prompt or _usual(schema, PROMPT_NAMES)
    return Columns(image, prompt, tuple(dict.fromkeys(choice.keep)))


def _usual(schema: pa.Schema, names: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(schema.names)}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _check_columns(schema: pa.Schema, path: str, manifest: Manifest) -> None:
    """Raise ManifestError where a file lacks a column, or has another type of it than can be read."""
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
            f"{path}: column {columns.image} is {image}; an image column holds encoded bytes, struct<bytes, path>, or a path"
        )
    if columns.prompt and not (
        _is_text(schema.field(columns.prompt).type)
        or pa.types.is_null(schema.field(columns.prompt).type)
    ):
        raise ManifestError(
            f"{path}: column {columns.prompt} is {schema.field(columns.prompt).type}; a prompt column holds strings"
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
            # One at a time: what is read ahead of an object store is held until the reader of its row groups ends.
            batches = parquet.iter_batches(
                READ_ROWS, row_groups=[index], columns=names, use_threads=False
            )
            yield from _cut(batches, segment.start - row, segment.stop - row)
        row += rows


def _cut(batches: Iterator[pa.RecordBatch], start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Of rows that are counted from 0, those from `start` to `stop`."""
    row = 0
    for batch in batches:
        first, last = max(start - row, 0), min(stop - row, len(batch))
        row += len(batch)
        if last > first:
            yield batch.slice(first, last - first)
        if row >= stop:
            return
