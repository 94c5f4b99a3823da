"""Row groups with large pages: the same rows as PyArrow reads, a few at a time."""

import io
import random
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import HF_IMAGE

from aigid.sources import READ_ROWS, row_groups
from aigid.sources.footer import ColumnChunk, column_chunks, footer_bytes
from aigid.sources.page_headers import Page, PageKind, pages_of
from aigid.sources.row_groups import RowGroups

ROWS = 300
LARGE = pa.struct([("path", pa.large_string()), ("bytes", pa.large_binary())])
WORDS = pa.dictionary(pa.int32(), pa.string())
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "the data set's": {"image": HF_IMAGE, "prompt": pa.string(), "id": pa.int64()},
    "large types": {"image": LARGE, "prompt": pa.large_string()},
    "views": {"image": pa.binary_view(), "prompt": pa.string_view()},
    "only images": {"image": pa.binary()},
    "only bytes in a struct": {"image": pa.struct([("bytes", pa.binary())]), "prompt": WORDS},
    "lists beside": {"image": pa.binary(), "tags": pa.list_(pa.string())},
}
WRITERS: dict[str, dict[str, Any]] = {
    "dictionaries": {"compression": "snappy"},
    "plain": {"compression": "zstd", "use_dictionary": False},
    "version 2": {"compression": "gzip", "data_page_version": "2.0", "use_dictionary": False},
    "small pages": {"compression": "none", "data_page_size": 5000, "write_batch_size": 16},
    "checksums": {"compression": "brotli", "write_page_checksum": True},
}


def value(kind: pa.DataType, row: int, noise: random.Random) -> Any:
    types = pa.types
    if row % 11 == 5:
        return None
    if types.is_struct(kind):
        # Not in step with the nulls above: a struct may be there without its fields.
        return {field.name: value(field.type, row + 3, noise) for field in kind}
    if types.is_list(kind):
        return [f"tag {number}" for number in range(row % 3)]
    if types.is_integer(kind):
        return row
    if "string" in str(kind):
        return f"é{row % 40} " * noise.randrange(60)
    return noise.randbytes(noise.randrange(600)) if row % 7 else b""


def table_of(columns: Mapping[str, pa.DataType]) -> pa.Table:
    noise = random.Random(7)
    arrays = {}
    for name, kind in columns.items():
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        array = pa.array([value(plain, row, noise) for row in range(ROWS)], plain)
        arrays[name] = array.dictionary_encode() if plain != kind else array
    return pa.table(arrays)


def written(table: pa.Table, **options: Any) -> pa.BufferReader:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return pa.BufferReader(buffer.getvalue())


def footer_of(source: pa.NativeFile) -> bytes:
    return footer_bytes(source, source.size(), "m.parquet")


def first_chunk(source: pa.NativeFile) -> ColumnChunk:
    return column_chunks(footer_of(source), pq.read_metadata(source))[0][0]


def read(
    source: pa.NativeFile, names: list[str], start: int, stop: int, **options: Any
) -> list[pa.RecordBatch]:
    groups = RowGroups(
        source, footer_of(source), names, options.pop("cuts", {}), is_local=True, **options
    )
    return list(groups.read(0, start, stop))


@pytest.fixture
def tiny_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "_PAGE_BYTES", 1000)
    monkeypatch.setattr(row_groups, "_READ_BYTES", 4000)


@pytest.mark.usefixtures("tiny_limits")
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("columns", COLUMNS)
def test_large_pages_give_the_rows_that_pyarrow_gives(columns: str, writer: str) -> None:
    table = table_of(COLUMNS[columns])
    source = written(table, **WRITERS[writer])
    expected = pq.read_table(source)
    for start, stop in ((0, ROWS), (7, ROWS - 5), (ROWS - 1, ROWS)):
        found = pa.Table.from_batches(read(source, table.column_names, start, stop))
        found.validate(full=True)
        assert found.schema.types == expected.schema.types
        assert found.to_pylist() == expected.slice(start, stop - start).to_pylist()


@pytest.mark.usefixtures("tiny_limits")
def test_a_read_ends_after_so_many_bytes() -> None:
    images = [bytes([row]) * (50 if row < 200 else 3000) for row in range(256)]
    batches = read(written(pa.table({"image": images})), ["image"], 0, 256)
    assert [len(batch) for batch in batches[:2]] == [80, 80]
    assert {len(batch) for batch in batches[3:-1]} == {2}


def test_small_pages_of_large_rows_are_read_a_few_rows_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_groups, "_READ_BYTES", 10_000)
    noise = random.Random(3)
    large = pa.table({"image": [noise.randbytes(2000) for _ in range(64)]})
    pages = {"data_page_size": 4000, "write_batch_size": 1, "use_dictionary": False}
    assert max(map(len, read(written(large, **pages), ["image"], 0, 64))) <= 5
    small = pa.table({"image": [noise.randbytes(20) for _ in range(256)]})
    sizes = [len(batch) for batch in read(written(small, **pages), ["image"], 0, 256)]
    assert sizes == [READ_ROWS, READ_ROWS]


def test_a_large_value_that_a_dictionary_repeats_does_not_come_many_times_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_groups, "_DICTIONARY_SHARE", 100_000)
    table = pa.table({"prompt": ["a long prompt " * 700] * 200})
    assert max(map(len, read(written(table), ["prompt"], 0, 200))) <= 10


@pytest.mark.parametrize("ahead", [0, 1 << 30], ids=["streamed", "read ahead"])
def test_a_file_in_an_object_store_gives_the_same_rows(
    monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr(row_groups, "_MOST_AHEAD_BYTES", ahead)
    table = table_of(COLUMNS["the data set's"])
    source = written(table)
    groups = RowGroups(source, footer_of(source), table.column_names, {}, is_local=False)
    assert pa.Table.from_batches(groups.read(0, 3, 250)) == table.slice(3, 247)


@pytest.mark.usefixtures("tiny_limits")
def test_longer_values_than_are_made_use_of_are_cut() -> None:
    table = pa.table({"image": [b"a" * 2000, b"b" * 10], "kept": [b"c" * 2000, b"d"]})
    (batch,) = read(written(table), ["image", "kept"], 0, 2, cuts={"image": 100})
    assert batch.to_pylist() == [
        {"image": b"a" * 100, "kept": b"c" * 2000},
        {"image": b"b" * 10, "kept": b"d"},
    ]


@pytest.mark.usefixtures("tiny_limits")
def test_a_value_that_is_too_large_is_an_error_that_names_its_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aigid.sources.large_columns.MOST_VALUE_BYTES", 1 << 20)
    source = written(pa.table({"notes": ["x" * (2 << 20)]}), use_dictionary=False)
    with pytest.raises(pa.ArrowInvalid, match="column notes has a value of 2 MiB; the most is 1"):
        read(source, ["notes"], 0, 1)


def test_a_page_that_cannot_be_read_in_parts_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_groups, "_PAGE_BYTES", 1 << 20)
    monkeypatch.setattr(row_groups, "_MOST_PAGE_BYTES", 2 << 20)
    source = written(pa.table({"image": [bytes(3 << 20)]}), compression="lz4", use_dictionary=False)
    with pytest.raises(
        pa.ArrowInvalid,
        match="a page of column image has 3 MiB, .* LZ4 .*: write the file anew with smaller row",
    ):
        read(source, ["image"], 0, 1)


@pytest.mark.parametrize("large", [True, False], ids=["large pages", "small pages"])
def test_a_damaged_page_is_found_by_its_checksum(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_groups, "_PAGE_BYTES", 1000 if large else 1 << 20)
    noise = random.Random(4)
    table = pa.table({"image": [noise.randbytes(500) for _ in range(40)]})
    options = {"use_dictionary": False, "compression": "none"}
    good = written(table, write_page_checksum=True, **options)
    (page,) = pages_of(good, first_chunk(good))
    for source, is_verified in ((good, True), (written(table, **options), False)):
        data = bytearray(source.read_at(source.size(), 0))
        # In the last row: whoever stops earlier must have verified it all the same.
        data[page.stop - 20] ^= 1
        if is_verified:
            with pytest.raises((pa.ArrowException, OSError), match="(?i)checksum"):
                read(pa.BufferReader(bytes(data)), ["image"], 0, 10)
        else:
            assert len(read(pa.BufferReader(bytes(data)), ["image"], 0, 10)) == 1


def test_pages_are_known_from_their_headers() -> None:
    noise = random.Random(5)
    table = pa.table({"image": [noise.randbytes(100) for _ in range(64)]})
    source = written(
        table, write_batch_size=16, data_page_size=1, compression="none", use_dictionary=False
    )
    pages = list(pages_of(source, first_chunk(source)))
    assert [page.values for page in pages] == [16] * 4
    assert {(page.kind, page.size, page.stop - page.start) for page in pages} == {
        (PageKind.DATA, 16 * 104 + 6, 16 * 104 + 6)
    }


@pytest.mark.parametrize(
    "header", [b"", b"\xff" * 600, b"\x15\x00\x00", b"\x1c" * 600, b"\x1b" + bytes(60)]
)
def test_a_damaged_header_is_an_error(header: bytes) -> None:
    source = written(pa.table({"image": [b"a" * 3000]}), use_dictionary=False)
    chunk = first_chunk(source)
    data = bytearray(source.read_at(source.size(), 0))
    data[chunk.data_page_offset : chunk.data_page_offset + len(header)] = header
    damaged = bytes(data if header else data[: chunk.data_page_offset + 1])
    with pytest.raises(pa.ArrowInvalid, match="damaged|negative"):
        list(pages_of(pa.BufferReader(damaged), chunk))


def test_the_size_of_a_page_may_not_be_negative() -> None:
    with pytest.raises(pa.ArrowInvalid, match="negative"):
        Page.of({1: 0, 2: -5, 3: 10, 5: {1: 3, 2: 0}}, 4)
