"""The footer of a Parquet file, and what it says of column chunks.

PyArrow ends the process for some damaged footers when it is asked for a column chunk, so these are
read here. Source: https://github.com/apache/parquet-format (parquet.thrift).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.errors import ManifestError
from aigid.sources.thrift import Cursor, Fields, read_struct

_MAGIC = b"PAR1"
# Read from the end of a file at once. Most footers are smaller, so one request is enough.
_TAIL_BYTES = 64 * 1024
# No file has more bytes or values.
_MOST = 1 << 60
_COMPRESSIONS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4")
_ENCODINGS = {
    0: "PLAIN",
    2: "PLAIN_DICTIONARY",
    3: "RLE",
    4: "BIT_PACKED",
    5: "DELTA_BINARY_PACKED",
    6: "DELTA_LENGTH_BYTE_ARRAY",
    7: "DELTA_BYTE_ARRAY",
    8: "RLE_DICTIONARY",
    9: "BYTE_STREAM_SPLIT",
}


@dataclass(frozen=True)
class ColumnChunk:
    """The values of a leaf column in a row group: how they are written, and where."""

    compression: str
    encodings: tuple[str, ...]
    values: int
    compressed_bytes: int
    bytes: int
    data_page_offset: int
    dictionary_page_offset: int | None

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Return the chunk with this metadata."""
        codec = fields[4]
        numbers = [fields[number] for number in (5, 6, 7, 9)] + [fields.get(11, 0)]
        if min(numbers) < 0 or max(numbers) > _MOST:
            raise pa.ArrowInvalid("the footer is damaged: a column chunk cannot be so large")
        return cls(
            _COMPRESSIONS[codec] if 0 <= codec < len(_COMPRESSIONS) else f"codec {codec}",
            tuple(_ENCODINGS.get(number, f"encoding {number}") for number in fields[2]),
            fields[5],
            fields[7],
            fields[6],
            fields[9],
            # Some writers note 0 where there is none.
            fields.get(11) or None,
        )


def footer_bytes(source: pa.NativeFile, size: int, text: str) -> bytes:
    """Return the end of a file of `size` bytes: the footer, its length and the marker.

    `text` is the file's name for the ManifestError that is raised where it is not Parquet.
    """
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


def column_chunks(footer: bytes, metadata: pq.FileMetaData) -> Sequence[Sequence[ColumnChunk]]:
    """Return the chunks of each row group, in the order of leaf columns.

    Raises pyarrow.ArrowInvalid where the footer is damaged.
    """
    groups = _chunks(footer)
    if {len(metadata.schema), *map(len, groups)} != {len(metadata.schema)}:
        raise pa.ArrowInvalid("the footer is damaged: a row group lacks columns")
    return groups


# A file is opened for each of its shards.
@lru_cache(maxsize=4)
def _chunks(footer: bytes) -> Sequence[Sequence[ColumnChunk]]:
    try:
        groups = read_struct(Cursor(footer[:-8]))[4]
        return [[ColumnChunk.of(chunk[3]) for chunk in group[1]] for group in groups]
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise pa.ArrowInvalid("the footer is damaged") from error
