"""The result rows: their columns, and that none is lost, invented or without an answer."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from support.result_tables import FILES, SCORED_BY, answers_of, manifest_of, small_table

from aigid.decisions import VerdictRule
from aigid.errors import ResultsError, UsageError
from aigid.fetch import ImageReference
from aigid.records import ErrorCode, Mode, RowError
from aigid.results import (
    ShardAnswers,
    check_kept_columns,
    image_column,
    result_table,
    results_schema,
)
from aigid.results.schema import COLUMNS
from aigid.shards import Shard
from aigid.sources import Segment

TEXT_KEY = pa.dictionary(pa.int32(), pa.string())


def test_the_schema_is_the_documented_one_with_kept_columns_in_between() -> None:
    kept = pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False, metadata={"unit": "rows"}),
            ("tags", pa.list_(pa.string())),
        ]
    )
    expected = pa.schema(
        [
            ("manifest", TEXT_KEY),
            ("row", pa.int64()),
            ("image", pa.string()),
            ("id", pa.int64()),
            ("tags", pa.list_(pa.string())),
            ("p_ai", pa.float32()),
            ("is_ai", pa.bool_()),
            ("source", TEXT_KEY),
            ("p_source", pa.list_(pa.float32(), 6)),
            ("known_score", pa.float32()),
            ("verdict", TEXT_KEY),
            ("error", TEXT_KEY),
            ("error_detail", pa.string()),
        ]
    )
    assert results_schema(kept, 6).equals(expected, check_metadata=True)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_kept_column_with_the_name_of_a_result_column_is_refused(name: str) -> None:
    with pytest.raises(
        UsageError,
        match=f"`keep` {name}: every result file has a column of that name; leave it out, or "
        "rename it in the manifest",
    ):
        check_kept_columns(pa.schema([("id", pa.int64()), (name, pa.string())]))


def test_a_table_has_a_row_for_each_manifest_row_in_order_scored_or_with_an_error() -> None:
    manifest = manifest_of({"a.parquet": 5, "b.parquet": 9}, {"id": pa.string()})
    shard = Shard(3, (Segment(manifest.files[0], 3, 5), Segment(manifest.files[1], 0, 2)))
    errors = {
        1: RowError(ErrorCode.MISSING, "x.png: No such file"),
        3: RowError(ErrorCode.TOO_LARGE, "big"),
    }
    kept = pa.table({"id": ["p", "q", None, "s"]})
    paths = ["1.png", "x.png", None, "s3://bucket/4.png"]
    answers = answers_of(shard, [0.75, np.nan, 0.25, np.nan], errors, kept, paths)
    table = result_table(manifest, answers, SCORED_BY)
    scored = {"error": None, "error_detail": None}
    columns = ("p_ai", "is_ai", "source", "p_source", "known_score", "verdict")
    failed = dict.fromkeys(columns)
    assert table.schema.equals(results_schema(manifest.keep_schema, 6))
    assert table.to_pylist() == [
        {"manifest": "a.parquet", "row": 3, "image": "1.png", "id": "p"}
        | {
            "p_ai": 0.75,
            "is_ai": True,
            "source": "sd21",
            "p_source": [0.25, 0.75, 0, 0, 0, 0],
            "known_score": 0.75,
            "verdict": "ai",
        }
        | scored,
        {"manifest": "a.parquet", "row": 4, "image": "x.png", "id": "q"}
        | {"error": "missing", "error_detail": "x.png: No such file"}
        | failed,
        {"manifest": "b.parquet", "row": 0, "image": None, "id": None}
        | {
            "p_ai": 0.25,
            "is_ai": False,
            "source": "real",
            "p_source": [0.75, 0, 0, 0.25, 0, 0],
            "known_score": 0.75,
            "verdict": "real",
        }
        | scored,
        {"manifest": "b.parquet", "row": 1, "image": "s3://bucket/4.png", "id": "s"}
        | {"error": "too_large", "error_detail": "big"}
        | failed,
    ]


def test_the_verdict_is_that_of_the_mode_and_the_source_that_of_the_threshold() -> None:
    rule = VerdictRule(Mode.BALANCED, 0.75, 0.25)
    table = small_table([0.9, 0.75, 0.6, 0.25, 0.1], scored_by=replace(SCORED_BY, verdicts=rule))
    assert table.column("verdict").to_pylist() == ["ai", "ai", "unsure", "unsure", "real"]
    assert table.column("is_ai").to_pylist() == [True, True, True, False, False]


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_is_written_as_its_value(code: ErrorCode) -> None:
    row = small_table([np.nan], {0: RowError(code, "why")}).to_pylist()[0]
    assert (row["error"], row["error_detail"]) == (code.value, "why")


def test_a_probability_at_the_threshold_is_ai_as_float32() -> None:
    # 0.1 as float32 is more than 0.1 as float64. A row whose probability is the model's stored
    # threshold must be AI.
    table = small_table(
        [np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(0))],
        scored_by=replace(SCORED_BY, threshold=0.1),
    )
    assert table.column("is_ai").to_pylist() == [True, False]
    assert table.column("source").to_pylist() == ["sd21", "real"]


def test_a_row_without_a_probability_or_an_error_is_never_committed() -> None:
    with pytest.raises(
        ResultsError,
        match="shard 0: 2 of 3 rows have neither a probability nor an error: not committed",
    ):
        small_table([0.5, np.nan, np.nan])


def test_kept_rows_that_are_not_the_shards_rows_are_never_committed() -> None:
    manifest = manifest_of({"m.parquet": 3}, {"id": pa.int64()})
    shard = Shard(7, (Segment(FILES[0], 0, 3),))
    answers = answers_of(shard, [0.1, 0.2, 0.3], kept=pa.table({"id": [1, 2]}))
    with pytest.raises(
        ResultsError,
        match=r"shard 7: its columns have \[2, 3\] rows, but the manifest 3: not committed",
    ):
        result_table(manifest, answers, SCORED_BY)


def test_images_that_are_not_the_shards_are_never_committed() -> None:
    answers = answers_of(Shard(7, (Segment(FILES[0], 0, 3),)), [0.1, 0.2, 0.3])
    answers.images.append(image_column([ImageReference(None, "one more.png")]))
    with pytest.raises(ResultsError, match=r"shard 7: its columns have \[3, 4\] rows"):
        result_table(manifest_of({"m.parquet": 3}), answers, SCORED_BY)


REFERENCES = {
    "a path": (ImageReference(None, "cats/1?.png#2"), "cats/1?.png#2"),
    "a URI": (ImageReference(None, "s3://bucket/1.png"), "s3://bucket/1.png"),
    "a signed URL": (
        ImageReference(None, "https://host/1.png?sig=s3cr3t"),
        "https://host/1.png?...",
    ),
    "a URL with a password": (ImageReference(None, "https://me:s3cr3t@host/1"), "https://host/1"),
    "inline bytes": (ImageReference(b"...", None), None),
    "inline bytes with a path": (ImageReference(b"...", "1.png"), None),
    "inline bytes that are empty": (ImageReference(b"", "1.png"), None),
    "a null image": (ImageReference(None, None), None),
    "an empty path": (ImageReference(None, ""), ""),
    "a file in place of its path": (ImageReference(None, "x" * 10_000_000), "x" * 4096 + "..."),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_image_column_has_references_without_secrets(name: str) -> None:
    reference, expected = REFERENCES[name]
    assert image_column([reference]).to_pylist() == [expected]
    assert image_column([reference]).type == pa.string()


def test_kept_columns_that_need_too_much_memory_are_an_error_that_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aigid.results.schema._MOST_KEPT_BYTES", 3 << 20)
    answers = ShardAnswers.of(Shard(0, (Segment(FILES[0], 4, 9),)), 2)
    answers.begin_segment()
    rows = pa.record_batch({"id": [1], "notes": ["x" * (2 << 20)]})
    answers.add_rows(image_column([ImageReference(None, "a.png")]), rows)
    with pytest.raises(
        ResultsError,
        match=r"m\.parquet: the kept columns, of them most notes, have 4 MiB in 2 rows from row 4 "
        "on; a result file holds at most 3 MiB: leave it out of `keep`, or lower `shard_rows`",
    ):
        answers.add_rows(image_column([ImageReference(None, "a.png")]), rows)
