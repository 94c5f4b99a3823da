"""Names in little memory: a folder may have a million files."""

import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

_CHUNK_NAMES = 1 << 16


class NameList:
    """A list of names, which need not be UTF-8. Python's strings would need four times as much."""

    def __init__(self) -> None:
        self._chunks: list[pa.Array] = []
        self._last: list[str] = []

    def __len__(self) -> int:
        return sum(map(len, self._chunks)) + len(self._last)

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            yield from map(os.fsdecode, chunk.to_pylist())
        yield from self._last

    def append(self, name: str) -> None:
        """Add a name."""
        self._last.append(name)
        if len(self._last) == _CHUNK_NAMES:
            self._chunks.append(_encoded(self._last))
            self._last = []

    def column(self) -> pa.ChunkedArray:
        """Return the names, which must be UTF-8, as a column of strings."""
        return pa.chunked_array([*self._chunks, _encoded(self._last)]).cast(pa.string())

    def in_order(self) -> Iterator[str]:
        """Yield the names in the order of their bytes."""
        if not self._chunks:
            yield from sorted(self._last, key=os.fsencode)
            return
        names = pa.concat_arrays([*self._chunks, _encoded(self._last)])
        self._chunks, self._last = [], []
        order = pc.sort_indices(names)
        for start in range(0, len(order), _CHUNK_NAMES):
            for name in names.take(order.slice(start, _CHUNK_NAMES)).to_pylist():
                yield os.fsdecode(name)


def _encoded(names: list[str]) -> pa.Array:
    return pa.array(map(os.fsencode, names), pa.binary())
