"""A manifest of image-prompt pairs: find its Parquet files and columns, fingerprint them, read runs of rows."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.errors import AigidError, ManifestError
from aigid.storage import Location, exists, list_parquet, locate

_BY_CONTENT = ("image", "img", "image_bytes", "jpg", "png")
_BY_NAME = ("image_path", "image_file", "file_name", "filename", "file_path", "filepath", "path", "image_url", "url", "uri")
IMAGE_NAMES = (*_BY_CONTENT, *_BY_NAME)
PROMPT_NAMES = ("prompt", "caption", "text", "description", "txt")

# Rows read at a time: few enough that encoded images stay small in memory, enough to tokenize in bulk.
READ_ROWS = 128
_FOOTER_THREADS = 8
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class ManifestFile:
    """One Parquet file of a manifest, with what identifies it: `row_groups` holds the rows of each row group."""

    path: str
    size_bytes: int
    row_groups: tuple[int, ...]
    footer_sha256: str

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return sum(self.row_groups)


@dataclass(frozen=True)
class Columns:
    """The columns a scan reads: `prompt` is None for a manifest of images alone; `keep` ride along to the results."""

    image: str
    prompt: str | None
    keep: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([self.image, *([self.prompt] if self.prompt else []), *self.keep]))


@dataclass(frozen=True)
class ColumnChoice:
    """What the user says of columns; None leaves it to the usual names."""

    image: str | None = None
    prompt: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment:
    """A run of rows `start` to `stop` of the manifest's file number `file`."""

    file: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows the run has."""
        return self.stop - self.start


@dataclass(frozen=True)
class Manifest:
    """The files of a manifest in order, the columns that are read, and the schema of its first file."""

    files: tuple[ManifestFile, ...]
    columns: Columns
    schema: pa.Schema

    @property
    def keep_schema(self) -> pa.Schema:
        """The columns that ride along to the results; without nullability and notes, which may differ from file to file."""
        return pa.schema([pa.field(name, self.schema.field(name).type) for name in self.columns.keep])

    @property
    def rows(self) -> int:
        """How many rows all files have."""
        return sum(file.rows for file in self.files)

    def kept(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Of some rows, the columns that ride along, in `keep_schema`."""
        return pa.RecordBatch.from_arrays([rows.column(name) for name in self.columns.keep], schema=self.keep_schema)


def open_manifest(sources: Sequence[str], choice: ColumnChoice = ColumnChoice()) -> Manifest:
    """Find the files of all `sources` (files, folders, globs, URIs), read their footers and settle the columns.

    Raises ManifestError where a source is missing, is no Parquet, has no rows, or lacks a column or has it in a wrong type,
    and where a file is given twice, since every row is scanned once.
    """
    locations = [location for source in sources for location in _find(source)]
    counts = Counter(location.text for location in locations)
    twice = next((text for text, count in counts.items() if count > 1), None)
    if twice is not None:
        raise ManifestError(f"{twice}: given twice, but every row is scanned once: name it once")
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        opened = list(pool.map(_read_footer, locations))
    files = tuple(file for file, _ in opened)
    if sum(file.rows for file in files) == 0:
        raise ManifestError(f"{', '.join(sources)}: the manifest has no rows")
    columns = _settle_columns(opened[0][1], files[0].path, choice)
    for file, schema in opened:
        _check_columns(schema, file.path, columns)
    manifest = Manifest(files, columns, opened[0][1])
    for file, schema in opened:
        for field in manifest.keep_schema:
            if schema.field(field.name).type != field.type:
                found = schema.field(field.name).type
                raise ManifestError(f"{file.path}: column {field.name} is {found}, but {field.type} in {files[0].path}")
    return manifest


def read_segment(manifest: Manifest, segment: Segment) -> Iterator[pa.RecordBatch]:
    """The rows of a segment in order, the manifest's columns only, a few at a time.

    Raises AigidError where the file is damaged or has changed since the manifest was opened.
    """
    file = manifest.files[segment.file]
    location = locate(file.path)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            _check_unchanged(source, file)
            # Without pre-buffering a row group of large images is streamed instead of held whole.
            parquet = pq.ParquetFile(source, pre_buffer=not location.is_local, buffer_size=1 << 20)
            yield from _slice_rows(parquet, manifest.columns.names, segment)
    except (pa.ArrowException, OSError) as error:
        where = f"{file.path}, rows {segment.start} to {segment.stop}"
        raise AigidError(
            f"{where}: cannot be read: {_one_line(error)}; mend or replace the file, then run the scan again"
        ) from error


def read_columns(file: ManifestFile, names: list[str]) -> pa.Table:
    """Some columns of a whole file, for small columns; raises AigidError where the file cannot be read."""
    location = locate(file.path)
    try:
        return pq.read_table(location.path, filesystem=location.filesystem, columns=names)
    except (pa.ArrowException, OSError) as error:
        raise AigidError(f"{file.path}: cannot be read: {_one_line(error)}") from error


def texts(column: pa.Array) -> list[str | None]:
    """A string column as Python strings; bytes that are not UTF-8 become replacement characters instead of an error."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return [None] * len(column)
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "replace") for value in raw]


def _find(source: str) -> list[Location]:
    location = locate(source)
    try:
        found = list_parquet(location)
        if not found:
            raise ManifestError(f"{source}: no Parquet file there")
        if len(found) == 1 and not exists(found[0]):
            raise ManifestError(f"{source}: no such file or folder")
    except OSError as error:
        raise ManifestError(f"{source}: cannot be listed: {_one_line(error)}") from error
    return found


def _read_footer(location: Location) -> tuple[ManifestFile, pa.Schema]:
    try:
        with location.filesystem.open_input_file(location.path) as source:
            size = source.size()
            footer = _footer_bytes(source, size, location.text)
            source.seek(0)
            metadata = pq.read_metadata(source)
            schema = metadata.schema.to_arrow_schema()
    except FileNotFoundError as error:
        raise ManifestError(f"{location.text}: no such file") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{location.text}: not a readable Parquet file: {_one_line(error)}") from error
    groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    if min(groups, default=0) < 0 or sum(groups) != metadata.num_rows:
        counts = f"its row groups have {sum(groups)} rows, the file {metadata.num_rows}"
        raise ManifestError(f"{location.text}: not a readable Parquet file: {counts}")
    return ManifestFile(location.text, size, groups, _sha256(footer)), schema


def _footer_bytes(source: pa.NativeFile, size: int, text: str) -> bytes:
    if size < 12:
        raise ManifestError(f"{text}: not a Parquet file: it has {size} bytes")
    source.seek(size - 8)
    tail = source.read(8)
    if tail[4:] != _MAGIC:
        source.seek(0)
        begins = source.read(4) == _MAGIC
        reason = "it begins as one but its end is missing: truncated?" if begins else "it does not begin or end as one"
        raise ManifestError(f"{text}: not a Parquet file: {reason}")
    length = min(int.from_bytes(tail[:4], "little"), size - 8)
    source.seek(size - 8 - length)
    return bytes(source.read(length + 8))


def _check_unchanged(source: pa.NativeFile, file: ManifestFile) -> None:
    try:
        size = source.size()
        same = size == file.size_bytes and _sha256(_footer_bytes(source, size, file.path)) == file.footer_sha256
    except ManifestError:
        same = False
    if not same:
        raise AigidError(f"{file.path}: has changed since it was opened; put it back as it was to go on, or begin anew")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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


def _check_columns(schema: pa.Schema, path: str, columns: Columns) -> None:
    for name in columns.names:
        if schema.names.count(name) != 1:
            problem = "no column" if name not in schema.names else "more than one column"
            raise ManifestError(f"{path}: {problem} named {name}; the columns are {', '.join(schema.names)}")
    image = schema.field(columns.image).type
    if not _is_image_type(image):
        raise ManifestError(
            f"{path}: column {columns.image} is {image}; an image column holds encoded bytes, struct<bytes, path>, or a path"
        )
    if columns.prompt and not (
        _is_text(schema.field(columns.prompt).type) or pa.types.is_null(schema.field(columns.prompt).type)
    ):
        raise ManifestError(
            f"{path}: column {columns.prompt} is {schema.field(columns.prompt).type}; a prompt column holds strings"
        )


def _is_image_type(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        parts = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        usable = [name for name in ("bytes", "path") if name in parts]
        return bool(usable) and all(_is_bytes(parts[name]) or _is_text(parts[name]) for name in usable)
    return _is_bytes(kind) or _is_text(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_null(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _slice_rows(parquet: pq.ParquetFile, names: list[str], segment: Segment) -> Iterator[pa.RecordBatch]:
    row, first = 0, 0
    groups: list[int] = []
    for index in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(index).num_rows
        if row + rows > segment.start and row < segment.stop:
            if not groups:
                first = row
            groups.append(index)
        row += rows
    row = first
    for batch in parquet.iter_batches(READ_ROWS, row_groups=groups, columns=names, use_threads=False):
        start, stop = max(segment.start - row, 0), min(segment.stop - row, len(batch))
        row += len(batch)
        if stop > start:
            yield batch.slice(start, stop - start)
        if row >= segment.stop:
            return


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
