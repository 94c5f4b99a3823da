"""The totals of a scan: over all result files, none of which may be missing or damaged."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.result_tables import FILES, small_table

from aigid.errors import ResultsError
from aigid.records import DEFAULT_LABELS, ErrorCode, RowError
from aigid.results import ErrorExample, ResultsFolder, ScanCounts, count_results
from aigid.shards import Shard
from aigid.sources import Segment

GONE, EMPTY = RowError(ErrorCode.MISSING, "gone"), RowError(ErrorCode.EMPTY, "0 bytes")


def shards(*rows: int) -> list[Shard]:
    """Shards of m.parquet with so many rows each."""
    bounds = np.cumsum([0, *rows]).tolist()
    return [
        Shard(index, (Segment(FILES[0], start, stop),))
        for index, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False))
    ]


def test_the_counts_are_over_all_shards(folder: ResultsFolder) -> None:
    paths = ["0.png", "1.png", "2.png", "3.png"]
    folder.commit(0, small_table([0.9, 0.1, np.nan, 0.8], {2: GONE}, paths=paths))
    folder.commit(1, small_table([np.nan, np.nan], {0: GONE, 1: EMPTY}, index=1))
    assert count_results(folder, shards(4, 2), DEFAULT_LABELS) == ScanCounts(
        shards=2,
        rows=6,
        scored=3,
        ai=2,
        verdicts={"ai": 2, "real": 1, "unsure": 0},
        sources={"real": 1, "sd21": 1, "sdxl": 0, "sd3": 0, "dalle3": 1, "midjourney": 0},
        errors={"empty": 1, "missing": 2},
        error_rate=0.5,
        error_examples={
            "empty": ErrorExample("m.parquet", 1, None, "0 bytes"),
            "missing": ErrorExample("m.parquet", 2, "2.png", "gone"),
        },
    )


def test_the_example_of_an_error_is_its_first_row_in_the_manifests_order(
    folder: ResultsFolder,
) -> None:
    for index in range(40):
        errors = {0: RowError(ErrorCode.MISSING, f"shard {index}")} if index >= 3 else {}
        folder.commit(index, small_table([np.nan if errors else 0.5, 0.5], errors, index=index))
    found = count_results(folder, shards(*[2] * 40), DEFAULT_LABELS).error_examples
    assert found["missing"].detail == "shard 3"


def test_a_scan_without_errors_has_no_examples(folder: ResultsFolder) -> None:
    folder.commit(0, small_table([0.5]))
    counts = count_results(folder, shards(1), DEFAULT_LABELS)
    assert (counts.errors, counts.error_examples, counts.error_rate) == ({}, {}, 0)


def test_a_file_that_is_missing_or_damaged_is_named(folder: ResultsFolder) -> None:
    folder.commit(0, small_table([0.1, 0.9]))
    path = Path(folder.detections.path, "part-000001.parquet")
    expected = f"{path}: damaged or missing: .*; remove it and run the scan again"
    with pytest.raises(ResultsError, match=expected):
        count_results(folder, shards(2, 2), DEFAULT_LABELS)
    folder.commit(1, small_table([0.1, 0.9], index=1))
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for damaged in (b"", b"PAR1", whole[:-9], b"\xff" * footer + whole[footer:]):
        path.write_bytes(damaged)
        with pytest.raises(ResultsError, match=expected):
            count_results(folder, shards(2, 2), DEFAULT_LABELS)
    pq.write_table(pa.table({"other": [1, 2]}), path)
    with pytest.raises(ResultsError, match=expected):
        count_results(folder, shards(2, 2), DEFAULT_LABELS)


def test_a_file_with_another_number_of_rows_is_named(folder: ResultsFolder) -> None:
    folder.commit(0, small_table([0.1]))
    with pytest.raises(
        ResultsError,
        match=r"part-000000\.parquet: its number of rows is 1, its shard's 2; remove it and run",
    ):
        count_results(folder, shards(2), DEFAULT_LABELS)
