"""The Parquet files of a manifest and their identity, compact enough for a million files."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Self, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aigid.errors import AigidError, ManifestError
from aigid.storage import ListedFile, explain_failure, store_failures

_MAGIC = b"PAR1"
# Read from the end of a file at once. Most footers are smaller, so one request is enough.
_TAIL_BYTES = 64 * 1024
_BATCH_FILES = 8192
_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("row_groups", pa.list_(pa.int64())),
        pa.field("footer_sha256", pa.binary(32)),
        pa.field("modified_ns", pa.int64()),
        pa.field("query", pa.string()),
    ]
)
_IDENTITY = ["path", "size_bytes", "row_groups", "footer_sha256"]


@dataclass(frozen=True)
class ManifestFile:
    """One Parquet file of a manifest and its identity.

    `row_groups` has the number of rows in each row group. `modified_ns` only tells whether the
    footer must be read again. `query` is that of a URL. It may hold a signature, so `path` shows
    it as "?...", and it is never recorded. Neither is a part of the identity.
    """

    path: str
    size_bytes: int
    row_groups: tuple[int, ...]
    footer_sha256: str
    modified_ns: int | None = field(default=None, compare=False)
    query: str | None = field(default=None, compare=False, repr=False)

    @property
    def uri(self) -> str:
        """The path or URI with which the file is opened."""
        if self.query is None:
            return self.path
        return f"{self.path.removesuffix('?...')}?{self.query}"

    @property
    def rows(self) -> int:
        """The number of rows in the file."""
        return sum(self.row_groups)


class ManifestFiles(Sequence[ManifestFile]):
    """Files in order, stored as Arrow columns: about 150 bytes a file."""

    def __init__(self, files: Iterable[ManifestFile] = ()) -> None:
        self._table = pa.Table.from_batches(_batches(files), schema=_SCHEMA)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the files that `to_bytes` wrote. Raises pyarrow.ArrowException for other bytes."""
        files = cls()
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        if table.schema != _SCHEMA.remove(_SCHEMA.get_field_index("query")):
            raise pa.ArrowInvalid(f"columns are {table.schema.names}, not {_SCHEMA.names}")
        files._table = table.append_column(
            _SCHEMA.field("query"), pa.nulls(len(table), pa.string())
        )
        return files

    def to_bytes(self) -> pa.Buffer:
        """Return all files as an Arrow IPC file, without the queries of URLs."""
        recorded = self._table.drop_columns("query")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(
            sink, recorded.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
        ) as writer:
            writer.write_table(recorded)
        return sink.getvalue()

    @property
    def rows(self) -> int:
        """The number of rows in all files."""
        return int(pc.sum(pc.list_flatten(self._table.column("row_groups"))).as_py() or 0)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> ManifestFile: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequence[ManifestFile]": ...

    def __getitem__(self, index: int | slice) -> "ManifestFile | Sequence[ManifestFile]":
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return _file(self._table.slice(index % len(self), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[ManifestFile]:
        for batch in self._table.to_batches(_BATCH_FILES):
            yield from map(_file, batch.to_pylist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ManifestFiles) and bool(
            self._table.select(_IDENTITY).equals(other._table.select(_IDENTITY))
        )


def read_footer(listed: ListedFile) -> tuple[ManifestFile, pa.Schema]:
    """Return a Parquet file's identity and its schema.

    Raises ManifestError if the file is missing, is damaged or is not Parquet.
    """
    location = listed.location
    try:
        with store_failures(location), location.filesystem.open_input_file(location.path) as source:
            size = source.size()
            footer = _footer_bytes(source, size, location.text)
    except FileNotFoundError as error:
        raise ManifestError(f"{location.text}: no such file") from error
    except OSError as error:
        raise ManifestError(
            f"{location.text}: cannot be read: {explain_failure(error, location)}"
        ) from error
    try:
        metadata = pq.read_metadata(pa.BufferReader(footer))
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{location.text}: not a readable Parquet file: {' '.join(str(error).split())}"
        ) from error
    groups = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    if min(groups, default=0) < 0 or sum(groups) != metadata.num_rows:
        counts = f"its row groups have {sum(groups)} rows, the file {metadata.num_rows}"
        raise ManifestError(f"{location.text}: not a readable Parquet file: {counts}")
    file = ManifestFile(
        location.text,
        size,
        groups,
        _sha256(footer),
        listed.modified_ns,
        location.hidden_query,
    )
    return file, schema


def check_unchanged(source: pa.NativeFile, file: ManifestFile) -> None:
    """Raise AigidError if an open file is not the same as when the manifest was opened."""
    try:
        size = source.size()
        same = (
            size == file.size_bytes
            and _sha256(_footer_bytes(source, size, file.path)) == file.footer_sha256
        )
    except ManifestError:
        same = False
    if not same:
        raise AigidError(
            f"{file.path}: has changed since the scan began; "
            "restore the file to go on, or start a new scan"
        )


def _file(values: dict[str, object]) -> ManifestFile:
    digest, groups = values.pop("footer_sha256"), values.pop("row_groups")
    return ManifestFile(**values, row_groups=tuple(groups), footer_sha256=digest.hex())  # type: ignore[arg-type,attr-defined]


def _batches(files: Iterable[ManifestFile]) -> Iterator[pa.RecordBatch]:
    rest = iter(files)
    while batch := list(islice(rest, _BATCH_FILES)):
        columns = [
            [file.path for file in batch],
            [file.size_bytes for file in batch],
            [file.row_groups for file in batch],
            [bytes.fromhex(file.footer_sha256) for file in batch],
            [file.modified_ns for file in batch],
            [file.query for file in batch],
        ]
        arrays = [
            pa.array(values, kind) for values, kind in zip(columns, _SCHEMA.types, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def _footer_bytes(source: pa.NativeFile, size: int, text: str) -> bytes:
    if size < 12:
        raise ManifestError(f"{text}: not a Parquet file: it has {size} bytes")
    tail = _last(source, size, _TAIL_BYTES)
    if tail[-4:] != _MAGIC:
        source.seek(0)
        reason = (
            "the end is missing; is the file truncated?"
            if source.read(4) == _MAGIC
            else "no Parquet marker at the start or the end"
        )
        raise ManifestError(f"{text}: not a Parquet file: {reason}")
    length = min(int.from_bytes(tail[-8:-4], "little"), size - 8) + 8
    return tail[-length:] if length <= len(tail) else _last(source, size, length)


def _last(source: pa.NativeFile, size: int, count: int) -> bytes:
    source.seek(max(0, size - count))
    return bytes(source.read(count))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
