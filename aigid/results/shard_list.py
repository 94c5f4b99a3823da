"""The list of a finished scan's result files, by which damage is noticed later: `shards.arrow`."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from aigid.results.content_hash import content_sha256
from aigid.storage import Location

# Most footers are smaller, so one request to an object store is enough.
_TAIL_BYTES = 64 << 10
_BATCH_SHARDS = 8192
_SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("size_bytes", pa.int64()),
        pa.field("tail_sha256", pa.binary(32)),
        pa.field("content_sha256", pa.binary(32)),
    ]
)
_SCAN, _FILES, _OWN = b"aigid.scan", b"aigid.files_sha256", b"aigid.sha256"


@dataclass(frozen=True)
class ListedShard:
    """A result file as the scan left it.

    `content_sha256` is the hash of its rows that its metadata has. `tail_sha256` is the SHA-256 of
    its last 64 KiB, where its footer is, or of the whole of a smaller file.
    """

    index: int
    rows: int
    size_bytes: int
    tail_sha256: bytes
    content_sha256: bytes


class ShardList:
    """All result files of a scan in order, as Arrow columns: about 100 bytes a file.

    `scan` is the content of `scan.json`, and `files_sha256` the SHA-256 of `files.arrow`.
    """

    def __init__(self, scan: bytes, files_sha256: str) -> None:
        self.scan, self.files_sha256 = scan, files_sha256
        self._batches: list[pa.RecordBatch] = []
        self._last: list[ListedShard] = []

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the list that `to_bytes` wrote. Raises pyarrow.ArrowException for other bytes."""
        table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
        table.validate(full=True)
        metadata = table.schema.metadata or {}
        if table.schema != _SCHEMA or metadata.keys() != {_SCAN, _FILES, _OWN}:
            raise pa.ArrowInvalid("it has other columns or other metadata")
        shards = cls(metadata[_SCAN], metadata[_FILES].decode("ascii", "replace"))
        shards._batches = table.to_batches()
        if shards._own_sha256(table).encode() != metadata[_OWN]:
            raise pa.ArrowInvalid("its content differs from its own hash")
        if table.column("index").to_pylist() != list(range(len(table))):
            raise pa.ArrowInvalid("its shards are not in order")
        return shards

    def to_bytes(self) -> pa.Buffer:
        """Return the list as an Arrow IPC file; the same shards give the same bytes."""
        table = self._table()
        metadata = {
            _SCAN: self.scan,
            _FILES: self.files_sha256,
            _OWN: self._own_sha256(table),
        }
        table = table.replace_schema_metadata(metadata)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks(), max_chunksize=_BATCH_SHARDS)
        return sink.getvalue()

    def append(self, shard: ListedShard) -> None:
        """Add the next shard."""
        self._last.append(shard)
        if len(self._last) == _BATCH_SHARDS:
            self._batches.append(_batch(self._last))
            self._last = []

    @property
    def rows(self) -> int:
        """The number of rows in all shards."""
        return int(pc.sum(self._table().column("rows")).as_py() or 0)

    def __len__(self) -> int:
        return sum(map(len, self._batches)) + len(self._last)

    def __iter__(self) -> Iterator[ListedShard]:
        for batch in self._batches:
            for values in batch.to_pylist():
                yield ListedShard(**values)
        yield from self._last

    def _table(self) -> pa.Table:
        return pa.Table.from_batches([*self._batches, _batch(self._last)], _SCHEMA)

    def _own_sha256(self, table: pa.Table) -> str:
        parts = (content_sha256(table), hashlib.sha256(self.scan).hexdigest(), self.files_sha256)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def size_and_tail(file: Location) -> tuple[int, bytes]:
    """Return a file's size in bytes, and the SHA-256 of its last 64 KiB.

    Raises OSError where it cannot be read.
    """
    with file.filesystem.open_input_file(file.path) as source:
        size = source.size()
        source.seek(max(0, size - _TAIL_BYTES))
        return size, hashlib.sha256(source.read(_TAIL_BYTES)).digest()


def _batch(shards: list[ListedShard]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([vars(shard) for shard in shards], _SCHEMA)
