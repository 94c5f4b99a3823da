"""The hash of a result file's content: another reader computes the same, from values alone."""

import datetime
import decimal
import hashlib
import struct
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.result_tables import small_table

from aigid.records import ErrorCode, RowError
from aigid.results import content_sha256

TABLE = pa.table(
    {
        "bool": pa.array([True, None, False]),
        "int8": pa.array([1, None, -3], pa.int8()),
        "float16": pa.array([1.5, None, 2], pa.float16()),
        "decimal": pa.array([decimal.Decimal("1.5"), None, None]),
        "string": pa.array(["é", None, ""]),
        "view": pa.array(["a", None, "b"], pa.string_view()),
        "binary": pa.array([b"\0", None, b"xyz"], pa.large_binary()),
        "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
        "key": pa.array(["a", None, "a"]).dictionary_encode(),
        "list": pa.array([[1, None], None, []], pa.list_(pa.int64())),
        "fixed list": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)),
        "nested": pa.array([[["a"]], None, [[]]], pa.large_list(pa.list_(pa.string()))),
        "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        "date": pa.array([datetime.date(2020, 1, 1), None, None]),
        "timestamp": pa.array([datetime.datetime(2020, 1, 1), None, None]),
        "null": pa.nulls(3),
    }
)


def test_chunks_slices_and_dictionaries_make_no_difference() -> None:
    expected = content_sha256(TABLE)
    assert content_sha256(pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])) == expected
    twice = pa.concat_tables([TABLE, TABLE])
    assert content_sha256(twice.slice(3)) == expected
    assert content_sha256(twice.combine_chunks().slice(3)) == expected
    plain = TABLE.set_column(8, "key", TABLE.column("key").cast(pa.string()))
    assert content_sha256(plain) == expected


@pytest.mark.parametrize("name", TABLE.column_names)
def test_every_value_name_and_position_counts(name: str) -> None:
    index = TABLE.column_names.index(name)
    values = TABLE.column(name).combine_chunks()
    others = {
        "another order": pa.concat_arrays([values[1:], values[:1]]),
        "a null more": pa.concat_arrays([pa.nulls(1, values.type), values[1:]]),
    }
    hashes = {content_sha256(TABLE), content_sha256(TABLE.rename_columns({name: "other"}))}
    for other in () if name == "null" else others.values():
        hashes.add(content_sha256(TABLE.set_column(index, name, other)))
    assert len(hashes) == (2 if name == "null" else 4)


def test_neighbouring_strings_do_not_run_into_each_other() -> None:
    tables = [pa.table({"x": ["ab", "c"]}), pa.table({"x": ["a", "bc"]})]
    tables += [pa.table({"x": [[1], [2, 3]]}), pa.table({"x": [[1, 2], [3]]})]
    assert len({content_sha256(table) for table in tables}) == 4


def test_a_reader_that_knows_nothing_of_arrow_computes_the_same(tmp_path: Path) -> None:
    errors = {1: RowError(ErrorCode.MISSING, "é.png: no such file")}
    table = small_table([0.75, np.nan, 0.25], errors, paths=["1.png", "é.png", None])
    pq.write_table(table, tmp_path / "part.parquet", compression="zstd")
    file = duckdb.read_parquet(str(tmp_path / "part.parquet"))
    formats = {"row": "<q", "p_ai": "<f", "known_score": "<f", "is_ai": "<?"}
    data = b""
    for name in file.columns:
        values = [row[0] for row in file.select(f'"{name}"').fetchall()]
        present = [value for value in values if value is not None]
        data += name.encode() + b"\0" + bytes(value is not None for value in values)
        if name in formats:
            data += b"".join(struct.pack(formats[name], value) for value in present)
        elif name == "p_source":
            data += b"".join(struct.pack("<q", len(value)) for value in present)
            elements = [element for value in present for element in value]
            data += b"\1" * len(elements) + struct.pack(f"<{len(elements)}f", *elements)
        else:
            texts = [value.encode() for value in present]
            data += b"".join(struct.pack("<q", len(text)) for text in texts) + b"".join(texts)
    ((stored,),) = duckdb.sql(
        f"SELECT decode(value) FROM parquet_kv_metadata('{tmp_path / 'part.parquet'}') "
        "WHERE decode(key) = 'aigid.content_sha256'"
    ).fetchall()
    assert stored == hashlib.sha256(data).hexdigest()
