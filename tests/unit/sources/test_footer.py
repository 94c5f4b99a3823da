"""What a footer says of column chunks: as PyArrow finds it, and an error where that would die."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigid.errors import AigidError, ManifestError
from aigid.manifest import ColumnChoice, open_manifest, read_segment
from aigid.sources import Segment
from aigid.sources.footer import column_chunks, footer_bytes
from aigid.sources.thrift import Cursor, read_struct

TABLE = pa.table(
    {
        "id": range(30),
        "image": [{"bytes": b"x" * 100, "path": "p"}] * 30,
        "prompt": ["a cat", None, "a dog"] * 10,
        "tags": [["x", "y"], [], None] * 10,
        "score": [0.5, None, float("nan")] * 10,
    }
)


def parquet_bytes(**options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(TABLE, buffer, row_group_size=7, **options)
    return buffer.getvalue()


def footer_of(data: bytes) -> bytes:
    return footer_bytes(pa.BufferReader(data), len(data), "m.parquet")


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.6"])
def test_column_chunks_are_those_that_pyarrow_finds(compression: str, version: str) -> None:
    data = parquet_bytes(
        compression=compression, version=version, write_page_index=True, store_schema=False
    )
    metadata = pq.read_metadata(io.BytesIO(data))
    groups = column_chunks(footer_of(data), metadata)
    assert len(groups) == metadata.num_row_groups == 5
    for index, group in enumerate(groups):
        for number, chunk in enumerate(group):
            theirs = metadata.row_group(index).column(number)
            assert (
                chunk.compression,
                chunk.encodings,
                chunk.values,
                chunk.compressed_bytes,
                chunk.bytes,
                chunk.data_page_offset,
                chunk.dictionary_page_offset,
            ) == (
                theirs.compression,
                tuple(theirs.encodings),
                theirs.num_values,
                theirs.total_compressed_size,
                theirs.total_uncompressed_size,
                theirs.data_page_offset,
                theirs.dictionary_page_offset,
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("footers")


CONTENT = parquet_bytes()
START = len(CONTENT) - len(footer_of(CONTENT))


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(st.integers(START, len(CONTENT) - 9), st.integers(0, 255)),
        min_size=1,
        max_size=3,
    )
)
def test_a_damaged_footer_is_read_or_refused_and_never_ends_the_process(
    folder: Path, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(CONTENT)
    for place, value in changes:
        damaged[place] = value
    path = folder / "m.parquet"
    path.write_bytes(bytes(damaged))
    try:
        manifest = open_manifest([str(path)], ColumnChoice(keep=("id",)))
        for batch in read_segment(manifest, Segment(manifest.files[0], 0, manifest.rows)):
            assert len(batch)
    except AigidError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x15",
        b"\xff" * 20,
        b"\x19\xf1" + b"\xff" * 9 + b"\x01",
        b"\x15" + b"\x80" * 100_000,
        b"\x1c" * 1000,
        b"\x1d\x00",
    ],
    ids=["nothing", "cut", "noise", "a list for ever", "a number for ever", "too deep", "a type"],
)
def test_what_is_no_struct_is_refused_at_once(data: bytes) -> None:
    with pytest.raises((IndexError, pa.ArrowInvalid)):
        read_struct(Cursor(data))


def test_a_row_group_without_its_columns_is_refused() -> None:
    other = io.BytesIO()
    pq.write_table(TABLE.select(["id"]), other)
    metadata = pq.read_metadata(io.BytesIO(CONTENT))
    with pytest.raises(pa.ArrowInvalid, match="a row group lacks columns"):
        column_chunks(footer_of(other.getvalue()), metadata)
    with pytest.raises(ManifestError, match="not a Parquet file"):
        footer_of(b"PAR1" + bytes(20))
