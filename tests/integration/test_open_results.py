"""The result files of a scan, opened as a folder by the programs that people use for tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from support.manifests import HF_IMAGE, encoded_image
from support.scan_results import result_files

from aigid.cli.main import main

Rows = list[dict[str, Any]]

COLUMNS = [
    *("manifest", "row", "image", "id", "tags"),
    *("p_ai", "is_ai", "source", "p_source", "known_score", "verdict", "error", "error_detail"),
]


@pytest.fixture(scope="module")
def detections(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scan of two files in several shards, with errors, nulls and kept columns."""
    folder = tmp_path_factory.mktemp("open")
    (folder / "images").mkdir()
    (folder / "images" / "1.png").write_bytes(encoded_image(1))
    for name in ("a.parquet", "b.parquet"):
        images = [
            {"bytes": encoded_image(ord(name[0])), "path": None},
            {"bytes": None, "path": "images/1.png"},
            None,
            {"bytes": None, "path": "images/gone.png"},
        ]
        table = pa.table(
            {
                "image": pa.array(images * 5, HF_IMAGE),
                "prompt": ["a cat"] * 20,
                "id": [f"{name}/{row}" for row in range(20)],
                "tags": [["x", "y"], [], None, ["z"]] * 5,
            }
        )
        pq.write_table(table, folder / name, row_group_size=4)
    words = ["scan", folder / "*.parquet", "--out", folder / "out", "--model", tiny_repository]
    words += ["--keep", "id", "--keep", "tags", "--shard-rows", 8, "--max-error-rate", 1]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / "out" / "detections"


@pytest.fixture(scope="module")
def expected(detections: Path) -> Rows:
    """The rows, file by file."""
    files = result_files(detections.parent)
    assert len(files) > 3
    rows: Rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert [row["id"] for row in rows] == [
        f"{name}.parquet/{row}" for name in "ab" for row in range(20)
    ]
    assert [row["error"] for row in rows[:4]] == [None, None, "empty", "missing"]
    assert [row["image"] for row in rows[:4]] == [None, "images/1.png", None, "images/gone.png"]
    return rows


def with_pandas(folder: Path) -> tuple[dict[str, str], Rows]:
    frame = pd.read_parquet(folder)
    rows = pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
    return {name: str(kind) for name, kind in frame.dtypes.items()}, rows


def with_pyarrow(folder: Path) -> tuple[dict[str, str], Rows]:
    table = pyarrow.dataset.dataset(folder).to_table()
    return {field.name: str(field.type) for field in table.schema}, table.to_pylist()


def with_polars(folder: Path) -> tuple[dict[str, str], Rows]:
    frame = pl.read_parquet(folder)
    return {name: str(kind) for name, kind in frame.schema.items()}, frame.to_dicts()


def with_duckdb(folder: Path) -> tuple[dict[str, str], Rows]:
    relation = duckdb.read_parquet(f"{folder}/*.parquet")
    kinds = dict(zip(relation.columns, map(str, relation.types), strict=True))
    return kinds, [dict(zip(kinds, row, strict=True)) for row in relation.fetchall()]


def with_datasets(folder: Path) -> tuple[dict[str, str], Rows]:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "parquet", data_dir=str(folder), split="train", cache_dir=str(folder.parent / "cache")
    )
    kinds = {name: str(feature) for name, feature in loaded.features.items()}
    return kinds, [dict(row) for row in loaded]


READERS: dict[str, tuple[Callable[[Path], tuple[dict[str, str], Rows]], dict[str, str]]] = {
    "pandas": (
        with_pandas,
        {"manifest": "category", "row": "int64", "p_ai": "float32", "source": "category"},
    ),
    "pyarrow": (
        with_pyarrow,
        {
            "manifest": "dictionary<values=string, indices=int32, ordered=0>",
            "row": "int64",
            "image": "string",
            "p_ai": "float",
            "is_ai": "bool",
            "p_source": "fixed_size_list<element: float>[6]",
        },
    ),
    "polars": (
        with_polars,
        {
            "manifest": "Categorical",
            "row": "Int64",
            "image": "String",
            "tags": "List(String)",
            "p_ai": "Float32",
            "is_ai": "Boolean",
            "p_source": "Array(Float32, shape=(6,))",
        },
    ),
    "duckdb": (
        with_duckdb,
        {
            "manifest": "VARCHAR",
            "row": "BIGINT",
            "image": "VARCHAR",
            "tags": "VARCHAR[]",
            "p_ai": "FLOAT",
            "is_ai": "BOOLEAN",
            "p_source": "FLOAT[]",
        },
    ),
    "datasets": (
        with_datasets,
        {
            "manifest": "Value('string')",
            "row": "Value('int64')",
            "p_ai": "Value('float32')",
            "is_ai": "Value('bool')",
            "p_source": "List(Value('float32'), length=6)",
        },
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_a_program_reads_the_folder_with_the_same_rows_in_order(
    name: str, detections: Path, expected: Rows
) -> None:
    read, expected_types = READERS[name]
    types, rows = read(detections)
    assert list(types) == COLUMNS
    assert expected_types.items() <= types.items()
    assert rows == expected
