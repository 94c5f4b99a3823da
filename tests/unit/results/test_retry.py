"""Failed rows of result files, and the answers that a retry starts from."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.result_tables import SCORED_BY, manifest_of
from support.sound_results import manifest_with_tars, sound_results

from aigid.errors import ResultsError
from aigid.fetch import ImageReference
from aigid.manifest import Manifest
from aigid.records import ErrorCode, RowError
from aigid.results import (
    FailedRows,
    ResultsFolder,
    ShardAnswers,
    ShardRetry,
    image_column,
    refuse_changed_rows,
    result_table,
    verify_results,
)
from aigid.results.retry import begin_retry
from aigid.shards import Shard, plan_shards

LABELS = len(SCORED_BY.labels)
MANIFEST = manifest_of({"a.parquet": 11, "b.parquet": 10}, {"id": pa.int64(), "note": pa.string()})
TARS = manifest_with_tars({"a.parquet": 5}, {"b.tar": 9, "c.tar": 4})


def made(out: Path, manifest: Manifest = MANIFEST) -> tuple[ResultsFolder, list[Shard]]:
    """A folder of three or more shards in which half of the rows failed."""
    tars = {"b.tar": 9, "c.tar": 4} if manifest is TARS else None
    results = sound_results(out, manifest, shard_rows=7, error_share=0.5, tar_rows=tars)
    return results, list(plan_shards(manifest.files, 7))


def filled(results: ResultsFolder, shard: Shard, codes: tuple[ErrorCode, ...]) -> ShardAnswers:
    answers = ShardAnswers.of(shard, LABELS)
    ShardRetry(results, codes).fill(answers)
    return answers


def read_manifest(answers: ShardAnswers, old: pa.Table, manifest: Manifest, batch: int) -> None:
    """Read the manifest's rows as a scan does, `batch` rows at a time."""
    done = 0
    for segment in answers.shard.segments:
        answers.begin_segment()
        names = old.column("manifest").to_pylist()
        end = done + names.count(segment.file.path)
        while done < end:
            kept = old.slice(done, min(batch, end - done)).select(manifest.columns.keep)
            images = image_column([ImageReference(None, None)] * len(kept))
            struct = pa.array([{}] * len(kept), pa.struct([]))
            empty = pa.RecordBatch.from_struct_array(struct)
            answers.add_rows(images, kept.to_batches()[0] if kept.num_columns else empty)
            done += len(kept)


@pytest.mark.parametrize("manifest", [MANIFEST, TARS], ids=["parquet", "tars"])
@pytest.mark.parametrize("codes", [(ErrorCode.TIMEOUT, ErrorCode.MISSING), tuple(ErrorCode)])
def test_with_the_same_answers_again_a_retry_gives_the_same_table(
    codes: tuple[ErrorCode, ...], manifest: Manifest, tmp_path: Path
) -> None:
    results, plan = made(tmp_path, manifest)
    retried = 0
    for shard in plan:
        old = results.read(shard)
        answers = filled(results, shard, codes)
        assert answers.retried is not None
        expected = [
            row for row, code in enumerate(old.column("error").to_pylist()) if code in codes
        ]
        assert answers.retried.tolist() == expected
        assert not answers.errors.keys() & set(expected)
        read_manifest(answers, old, manifest, batch=3)
        details = old.column("error_detail").to_pylist()
        for row in expected:
            answers.errors[row] = RowError(old.column("error")[row].as_py(), details[row])
        table = result_table(manifest, answers, SCORED_BY)
        refuse_changed_rows(answers, table)
        assert table.equals(old.cast(table.schema), check_metadata=True)
        retried += len(expected)
    assert retried


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_only_the_rows_with_these_codes_are_to_be_scanned(batch: int, tmp_path: Path) -> None:
    results, plan = made(tmp_path)
    answers = filled(results, plan[0], (ErrorCode.EMPTY,))
    answers.begin_segment()
    chosen: list[int] = []
    for first in range(0, plan[0].rows, batch):
        rows = min(batch, plan[0].rows - first)
        chosen += [first + row for row in answers.to_scan(rows)]
        kept = pa.RecordBatch.from_pylist([{"id": 1, "note": "x"}] * rows)
        answers.add_rows(image_column([ImageReference(None, None)] * rows), kept)
    codes = results.read(plan[0], ["error"]).column("error").to_pylist()
    assert chosen == [row for row, code in enumerate(codes) if code == "empty"]


def test_without_a_retry_all_rows_are_to_be_scanned() -> None:
    shard = next(plan_shards(MANIFEST.files, 7))
    assert list(ShardAnswers.of(shard, LABELS).to_scan(5)) == [0, 1, 2, 3, 4]


def test_a_shard_without_a_result_file_is_scanned_whole(tmp_path: Path) -> None:
    results, plan = made(tmp_path)
    results.discard([1])
    answers = filled(results, plan[1], tuple(ErrorCode))
    assert answers.retried is None
    assert list(answers.to_scan(3)) == [0, 1, 2]


@pytest.mark.parametrize("column", ["id", "note", "image"])
def test_another_value_of_a_row_that_is_not_retried_is_refused(column: str, tmp_path: Path) -> None:
    results, plan = made(tmp_path)
    old = results.read(plan[0])
    answers = filled(results, plan[0], (ErrorCode.MISSING,))
    place = old.schema.get_field_index(column)
    other = pa.array([1234] * len(old)).cast(old.schema.field(column).type)
    with pytest.raises(ResultsError, match="shard 0: rows that are not retried would change"):
        refuse_changed_rows(answers, old.set_column(place, column, other))
    refuse_changed_rows(answers, old)


def test_failed_rows_are_counted_by_shard_and_code(tmp_path: Path) -> None:
    results, plan = made(tmp_path)
    codes = {shard.index: results.read(shard).column("error").to_pylist() for shard in plan}
    failed = FailedRows.of(results, plan, (ErrorCode.MISSING, ErrorCode.TIMEOUT))
    wanted = {"missing", "timeout"}
    assert failed.errors.keys() == {index for index, found in codes.items() if wanted & set(found)}
    assert failed.rows == sum(code in wanted for found in codes.values() for code in found)
    for index, counts in failed.errors.items():
        assert counts == {code: codes[index].count(code) for code in set(codes[index]) - {None}}
    assert failed.count_scored(results, plan) == 0
    assert FailedRows.of(results, plan, ()).errors == {}


def test_a_damaged_result_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    results, plan = made(tmp_path)
    file = tmp_path / "detections" / "part-000001.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ResultsError, match=r"part-000001.parquet: damaged"):
        FailedRows.of(results, plan, tuple(ErrorCode))
    with pytest.raises(ResultsError, match=r"part-000001.parquet: damaged"):
        filled(results, plan[1], tuple(ErrorCode))


def test_a_folder_whose_retry_begins_is_like_one_of_a_scan_that_was_killed(
    tmp_path: Path,
) -> None:
    results, _ = made(tmp_path)
    begin_retry(results)
    assert {one.kind.value for one in verify_results(results)} == {"unfinished"}
    begin_retry(results)


def test_random_answers_survive_bit_for_bit(tmp_path: Path) -> None:
    results, plan = made(tmp_path)
    for shard in plan:
        old = results.read(shard)
        answers = filled(results, shard, tuple(ErrorCode))
        np.testing.assert_array_equal(answers.p_ai, old.column("p_ai").to_numpy())
        known = old.column("known_score").to_numpy()
        np.testing.assert_array_equal(answers.known_score, known)
