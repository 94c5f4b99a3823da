"""What a Parquet footer says of its column chunks.

PyArrow ends the process for some damaged footers when it is asked for a column chunk, so they are
read here. Source: https://github.com/apache/parquet-format (parquet.thrift).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import pyarrow as pa

from aigid.sources.thrift import Cursor, Fields, read_struct

_COMPRESSIONS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")
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


# A file is opened for each of its shards.
@lru_cache(maxsize=4)
def column_chunks(footer: bytes) -> Sequence[Sequence[ColumnChunk]]:
    """Return the chunks of each row group, in the order of leaf columns.

    `footer` ends a Parquet file, with its length and the marker. Raises pyarrow.ArrowInvalid where
    it is damaged.
    """
    try:
        groups = read_struct(Cursor(footer[:-8]))[4]
        return [[ColumnChunk.of(chunk[3]) for chunk in group[1]] for group in groups]
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise pa.ArrowInvalid("the footer is damaged") from error
