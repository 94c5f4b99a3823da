"""The files of a manifest and their identity, compact enough for a million files."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Self, overload

import pyarrow as pa
import pyarrow.compute as pc

from aigid.sources.kinds import Kind
from aigid.sources.spool import spooled

# Rows in a read: enough to tokenize in bulk, and few enough that encoded images need little memory.
READ_ROWS = 128

_BATCH_FILES = 8192
_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("row_groups", pa.list_(pa.int64())),
        pa.field("digest", pa.binary(32)),
        pa.field("kind", pa.dictionary(pa.int8(), pa.string())),
        pa.field("schema", pa.dictionary(pa.int32(), pa.binary())),
        pa.field("first_row", pa.int64()),
        pa.field("blocks", pa.list_(pa.struct([("bytes", pa.int64()), ("digest", pa.int64())]))),
        pa.field("kept_bytes", pa.list_(pa.int64())),
        pa.field("modified_ns", pa.int64()),
        pa.field("query", pa.string()),
        pa.field("content", pa.binary()),
    ]
)
_IDENTITY = ["path", "size_bytes", "row_groups", "digest", "kind", "first_row"]
_NOT_RECORDED = ["query", "content"]
_NO_SCHEMA = pa.schema([])


@dataclass(frozen=True)
class Block:
    """A run of rows of a text table: its length, and 63 bits of the SHA-256 of its bytes."""

    bytes: int
    digest: int


@dataclass(frozen=True)
class ManifestFile:
    """One file of a manifest and its identity; or a run of the images in a folder.

    `row_groups` has the number of rows in each row group, or in each block of a text table. It is
    empty for a tar, whose rows are known when it was read. `digest` is the SHA-256 of what tells
    one content from another: of a Parquet file, its footer. `schema` has the file's columns. The
    first row of a run of images is row `first_row` of the folder.

    What follows is no part of the identity. `modified_ns` only tells whether the file must be
    looked into again. `query` is that of a URL. It may hold a signature, so `path` shows it as
    "?...". `content` has the rows of a run of images, as an Arrow stream. Neither is recorded.
    `blocks` are those of a text table: the first has the line of its column names. `kept_bytes` has
    the bytes of the kept columns in each row group, nothing where they are not known.
    """

    path: str
    size_bytes: int
    row_groups: tuple[int, ...]
    digest: str
    modified_ns: int | None = field(default=None, compare=False)
    query: str | None = field(default=None, compare=False, repr=False)
    kind: Kind = Kind.PARQUET
    schema: pa.Schema = field(default=_NO_SCHEMA, compare=False, repr=False)
    first_row: int = 0
    blocks: tuple[Block, ...] = field(default=(), compare=False, repr=False)
    content: bytes | None = field(default=None, compare=False, repr=False)
    kept_bytes: tuple[int, ...] = field(default=(), compare=False)

    @property
    def uri(self) -> str:
        """The path or URI with which the file is opened."""
        if self.query is None:
            return self.path
        return f"{self.path.removesuffix('?...')}?{self.query}"

    @property
    def has_known_rows(self) -> bool:
        """Whether its number of rows is known before it is read."""
        return self.kind is not Kind.TAR or bool(self.row_groups)

    @property
    def rows(self) -> int:
        """The number of rows in the file, as far as it is known."""
        return sum(self.row_groups)


@dataclass(frozen=True)
class Segment:
    """The rows from `start` up to `stop` of one of the manifest's files; without a stop, all."""

    file: ManifestFile
    start: int
    stop: int | None

    @property
    def rows(self) -> int:
        """The number of rows in the segment, as far as it is known."""
        return 0 if self.stop is None else self.stop - self.start


class ManifestFiles(Sequence[ManifestFile]):
    """Files in order, stored as Arrow columns: about 150 bytes a file.

    Those of a large manifest are in a temporary file, mapped into memory.
    """

    def __init__(self, files: Iterable[ManifestFile] = ()) -> None:
        self._table = spooled(_batches(files), _SCHEMA)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the files that `to_bytes` wrote. Raises pyarrow.ArrowException for other bytes."""
        files = cls()
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        recorded = [name for name in _SCHEMA.names if name not in _NOT_RECORDED]
        if table.schema != pa.schema([_SCHEMA.field(name) for name in recorded]):
            raise pa.ArrowInvalid(f"columns are {table.schema.names}, not {recorded}")
        for name in _NOT_RECORDED:
            place = _SCHEMA.get_field_index(name)
            missing = pa.nulls(len(table), _SCHEMA.field(name).type)
            table = table.add_column(place, _SCHEMA.field(name), missing)
        files._table = table
        return files

    def to_bytes(self) -> pa.Buffer:
        """Return all files as an Arrow IPC file, without queries of URLs and images' names."""
        recorded = self._table.drop_columns(_NOT_RECORDED).unify_dictionaries()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(
            sink, recorded.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
        ) as writer:
            writer.write_table(recorded)
        return sink.getvalue()

    @property
    def rows(self) -> int:
        """The number of rows in all files, as far as it is known."""
        return int(pc.sum(pc.list_flatten(self._table.column("row_groups"))).as_py() or 0)

    @property
    def schemas(self) -> list[pa.Schema]:
        """The schemas of all files, each once."""
        chunks = self._table.column("schema").chunks
        found = dict.fromkeys(data for chunk in chunks for data in pc.unique(chunk).to_pylist())
        return [_schema_of(data) for data in found]

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


def _file(values: dict[str, Any]) -> ManifestFile:
    values["row_groups"] = tuple(values["row_groups"])
    values["kept_bytes"] = tuple(values["kept_bytes"])
    values["digest"] = values["digest"].hex()
    values["kind"] = Kind(values["kind"])
    values["schema"] = _schema_of(values["schema"])
    values["blocks"] = tuple(Block(**block) for block in values["blocks"])
    return ManifestFile(**values)


@lru_cache(maxsize=64)
def _schema_of(data: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(data))


def _batches(files: Iterable[ManifestFile]) -> Iterator[pa.RecordBatch]:
    rest = iter(files)
    while batch := list(islice(rest, _BATCH_FILES)):
        columns: list[list[Any]] = [
            [file.path for file in batch],
            [file.size_bytes for file in batch],
            [file.row_groups for file in batch],
            [bytes.fromhex(file.digest) for file in batch],
            [file.kind.value for file in batch],
            [file.schema.serialize().to_pybytes() for file in batch],
            [file.first_row for file in batch],
            [[vars(block) for block in file.blocks] for file in batch],
            [file.kept_bytes for file in batch],
            [file.modified_ns for file in batch],
            [file.query for file in batch],
            [file.content for file in batch],
        ]
        arrays = [
            pa.array(values, kind) for values, kind in zip(columns, _SCHEMA.types, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
