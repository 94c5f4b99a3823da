"""The results folder: its schema, its commits, and that one folder holds one scan."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigid.errors import ResultsError, ResumeMismatchError, UsageError
from aigid.manifest import Columns, Manifest, Segment
from aigid.manifest_files import ManifestFile, ManifestFiles
from aigid.records import SOURCES, ErrorCode, RowError
from aigid.results.folder import RESERVED, ResultsFolder, open_results, result_table, results_schema
from aigid.scorers import Scores
from aigid.shards import Shard

TEXT_KEY = pa.dictionary(pa.int32(), pa.string())
DIGEST = "ab" * 32
FILES = ManifestFiles([ManifestFile("m.parquet", 10, (9,), DIGEST, 5)])
SCAN: dict[str, Any] = {
    "format": 1,
    "manifests": ["m.parquet"],
    "input": {"files": 1, "rows": 3},
    "model": {"name": "tiny", "fingerprint": "f1", "precision": "int8"},
    "settings": {
        "threshold": 0.5,
        "limit": None,
        "columns": {"image": "image", "prompt": None, "keep": []},
    },
    "shards": 1,
    "versions": {"aigid": "0.1.0", "numpy": "2.0"},
}


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    """A results folder that is there."""
    (tmp_path / "out").mkdir()
    return open_results(str(tmp_path / "out"))


def manifest_of(
    files: Mapping[str, int], keep: Mapping[str, pa.DataType] | None = None
) -> Manifest:
    keep = keep or {}
    schema = pa.schema([("image", pa.string()), *keep.items()])
    return Manifest(
        ManifestFiles(ManifestFile(name, 1000, (rows,), DIGEST) for name, rows in files.items()),
        Columns("image", None, tuple(keep)),
        schema,
    )


def scores_of(p_ai: list[float]) -> Scores:
    """Scores whose likeliest generator is another for each row."""
    p_source = np.zeros((len(p_ai), len(SOURCES)), np.float32)
    for row, value in enumerate(p_ai):
        p_source[row, 0] = 1 - value
        p_source[row, 1 + row % 5] = value
    return Scores(np.array(p_ai, np.float32), p_source)


def small_table(
    p_ai: list[float], errors: Mapping[int, RowError] | None = None, threshold: float = 0.5
) -> pa.Table:
    manifest = manifest_of({"m.parquet": len(p_ai)})
    shard = Shard(0, (Segment(FILES[0], 0, len(p_ai)),))
    return result_table(manifest, shard, pa.table({}), scores_of(p_ai), errors or {}, threshold)


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
            ("id", pa.int64()),
            ("tags", pa.list_(pa.string())),
            ("p_ai", pa.float32()),
            ("is_ai", pa.bool_()),
            ("source", TEXT_KEY),
            ("p_source", pa.list_(pa.float32(), 6)),
            ("error", TEXT_KEY),
            ("error_detail", pa.string()),
        ]
    )
    assert results_schema(kept).equals(expected, check_metadata=True)


@pytest.mark.parametrize("name", RESERVED)
def test_a_kept_column_with_the_name_of_a_results_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--keep {name}: the results have a column of that name"):
        results_schema(pa.schema([("id", pa.int64()), (name, pa.string())]))


def test_a_result_table_has_a_row_for_each_manifest_row_in_order_scored_or_with_an_error() -> None:
    manifest = manifest_of({"a.parquet": 5, "b.parquet": 9}, {"id": pa.string()})
    shard = Shard(3, (Segment(manifest.files[0], 3, 5), Segment(manifest.files[1], 0, 2)))
    errors = {
        1: RowError(ErrorCode.MISSING, "x.png: No such file"),
        3: RowError(ErrorCode.TOO_LARGE, "big"),
    }
    scores = scores_of([0.75, np.nan, 0.25, np.nan])
    table = result_table(
        manifest, shard, pa.table({"id": ["p", "q", None, "s"]}), scores, errors, 0.5
    )
    scored = {"error": None, "error_detail": None}
    failed = {"p_ai": None, "is_ai": None, "source": None, "p_source": None}
    assert table.schema.equals(results_schema(manifest.keep_schema), check_metadata=True)
    assert table.to_pylist() == [
        {
            "manifest": "a.parquet",
            "row": 3,
            "id": "p",
            "p_ai": 0.75,
            "is_ai": True,
            "source": "sd21",
        }
        | {"p_source": [0.25, 0.75, 0, 0, 0, 0]}
        | scored,
        {
            "manifest": "a.parquet",
            "row": 4,
            "id": "q",
            "error": "missing",
            "error_detail": "x.png: No such file",
        }
        | failed,
        {
            "manifest": "b.parquet",
            "row": 0,
            "id": None,
            "p_ai": 0.25,
            "is_ai": False,
            "source": "real",
        }
        | {"p_source": [0.75, 0, 0, 0.25, 0, 0]}
        | scored,
        {"manifest": "b.parquet", "row": 1, "id": "s", "error": "too_large", "error_detail": "big"}
        | failed,
    ]


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_is_written_as_its_value(code: ErrorCode) -> None:
    row = small_table([np.nan], {0: RowError(code, "why")}).to_pylist()[0]
    assert (row["error"], row["error_detail"]) == (code.value, "why")


def test_a_probability_at_the_threshold_is_ai_as_float32() -> None:
    # 0.1 as float32 is above 0.1 as float64; a row on the threshold that was stored with the model must be on it.
    table = small_table(
        [np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(0))], threshold=0.1
    )
    assert table.column("is_ai").to_pylist() == [True, False]
    assert table.column("source").to_pylist() == ["sd21", "real"]


def test_a_row_without_score_or_error_is_never_committed() -> None:
    with pytest.raises(
        ResultsError,
        match="shard 0: 2 of 3 rows have neither a probability nor an error: not committed",
    ):
        small_table([0.5, np.nan, np.nan])


def test_kept_rows_that_are_not_the_shards_rows_are_never_committed() -> None:
    manifest = manifest_of({"m.parquet": 3}, {"id": pa.int64()})
    shard = Shard(7, (Segment(FILES[0], 0, 3),))
    with pytest.raises(
        ResultsError, match=r"shard 7: 3 rows went in and \[2, 3\] came out: not committed"
    ):
        result_table(manifest, shard, pa.table({"id": [1, 2]}), scores_of([0.1, 0.2, 0.3]), {}, 0.5)


def test_a_commit_is_a_whole_file_and_the_same_table_gives_the_same_bytes(
    folder: ResultsFolder,
) -> None:
    table = small_table([0.1, 0.9, np.nan], {2: RowError(ErrorCode.EMPTY, "zero bytes")})
    folder.commit(0, table)
    folder.commit(1, table)
    path = Path(folder.location.path)
    assert sorted(file.name for file in path.iterdir()) == [
        "detections-000000.parquet",
        "detections-000001.parquet",
    ]
    assert (path / "detections-000000.parquet").read_bytes() == (
        path / "detections-000001.parquet"
    ).read_bytes()
    assert pq.read_table(path / "detections-000000.parquet").equals(table)


def test_committed_gives_the_shards_whose_files_are_there(folder: ResultsFolder) -> None:
    assert folder.committed() == set()
    for index in (0, 2, 9):
        folder.commit(index, small_table([0.5]))
    (Path(folder.location.path) / ".detections-000001.parquet.ab.tmp").touch()
    (Path(folder.location.path) / "detections-3.parquet").touch()
    assert folder.committed() == {0, 2, 9}


def test_a_commit_into_a_folder_that_is_gone_names_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        open_results(str(tmp_path / "gone")).commit(0, small_table([0.5]))
    assert str(caught.value) == (
        f"{tmp_path / 'gone'}: cannot write detections-000000.parquet: No such file or directory; committed shards stay: "
        "make room or mend it, then run the same command again"
    )
    assert caught.value.exit_status == 1


def test_a_scan_claims_an_empty_folder_and_may_claim_it_again(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    before = Path(folder.location.path, "scan.json").read_bytes()
    assert json.loads(before) == SCAN
    folder.claim(SCAN, FILES)
    assert Path(folder.location.path, "scan.json").read_bytes() == before


def test_values_that_json_does_not_tell_apart_are_the_same_scan(folder: ResultsFolder) -> None:
    folder.claim({**SCAN, "settings": {"keep": ("id", "label")}}, FILES)
    folder.claim({**SCAN, "settings": {"keep": ["id", "label"]}}, FILES)


def _without(scan: dict[str, Any], section: str) -> None:
    del scan[section]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "input": (lambda scan: scan["input"].update(rows=4), "input.rows: 3 -> 4"),
    "model": (
        lambda scan: scan["model"].update(fingerprint="f2"),
        'model.fingerprint: "f1" -> "f2"',
    ),
    "settings": (lambda scan: scan["settings"].update(limit=5), "settings.limit: null -> 5"),
    "new setting": (lambda scan: scan["settings"].update(new=True), "settings.new: null -> true"),
    "format": (lambda scan: scan.update(format=2), "format: 1 -> 2"),
    "shards": (lambda scan: scan.update(shards=2), "shards: 1 -> 2"),
    "section gone": (lambda scan: _without(scan, "shards"), "shards: 1 -> null"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_scan_is_refused_and_the_difference_is_named(
    folder: ResultsFolder, name: str
) -> None:
    folder.claim(SCAN, FILES)
    other = copy.deepcopy(SCAN)
    change, said = CHANGES[name]
    change(other)
    with pytest.raises(ResumeMismatchError) as caught:
        folder.claim(other, FILES)
    assert f"differing: {said}. Give another folder" in str(caught.value)
    assert json.loads(Path(folder.location.path, "scan.json").read_bytes()) == SCAN


def test_every_section_that_differs_is_named(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    other = copy.deepcopy(SCAN)
    other["model"] |= {"name": "other", "fingerprint": "f2"}
    other["settings"]["threshold"] = 0.9
    other["versions"]["numpy"] = "3.0"
    with pytest.raises(ResumeMismatchError) as caught:
        folder.claim(other, FILES)
    said = 'differing: model.fingerprint: "f1" -> "f2"; model.name: "tiny" -> "other"; settings.threshold: 0.5 -> 0.9. Give'
    assert said in str(caught.value)


def test_a_long_value_that_differs_is_cut_short(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    other = copy.deepcopy(SCAN)
    other["settings"]["columns"] = [f"column {number}" for number in range(10_000)]
    with pytest.raises(ResumeMismatchError, match=r"settings.columns: .* -> .*\.\.\.") as caught:
        folder.claim(other, FILES)
    assert len(str(caught.value)) < 600


def test_other_versions_of_software_do_not_matter(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    folder.claim({**SCAN, "versions": {"aigid": "9.9.9", "numpy": "3.0"}}, FILES)


def test_another_way_to_name_the_same_files_does_not_matter(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    folder.claim({**SCAN, "manifests": ["*.parquet"]}, FILES)


OTHER_FILES = {
    "another name": (["x.parquet"], {}, 'input: file 1: "m.parquet" -> "x.parquet"'),
    "one more": (["m.parquet", "n.parquet"], {}, "input: file 2: none -> n.parquet"),
    "another size": (
        ["m.parquet"],
        {"size_bytes": 11},
        "input: m.parquet: its size, row groups or footer are others",
    ),
    "other row groups": (
        ["m.parquet"],
        {"row_groups": (4, 5)},
        "input: m.parquet: its size, row groups or footer are others",
    ),
    "another footer": (
        ["m.parquet"],
        {"footer_sha256": "cd" * 32},
        "input: m.parquet: its size, row groups or footer are others",
    ),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_are_refused_and_the_first_that_differs_is_named(
    folder: ResultsFolder, name: str
) -> None:
    names, changed, said = OTHER_FILES[name]
    folder.claim(SCAN, FILES)
    files = ManifestFiles(replace(FILES[0], path=path, **changed) for path in names)
    with pytest.raises(ResumeMismatchError) as caught:
        folder.claim(SCAN, files)
    assert f"differing: {said}. Give another folder" in str(caught.value)
    assert folder.recorded_files() == FILES


def test_files_that_were_touched_are_the_same(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    folder.claim(SCAN, ManifestFiles([replace(FILES[0], modified_ns=6)]))


@pytest.mark.parametrize("content", [None, b"", b"ARROW1", b"PAR1"])
def test_a_record_of_files_that_cannot_be_read_is_no_record(
    folder: ResultsFolder, content: bytes | None
) -> None:
    folder.claim(SCAN, FILES)
    path = Path(folder.location.path, "files.arrow")
    path.unlink() if content is None else path.write_bytes(content)
    assert folder.recorded_files() is None
    with pytest.raises(ResumeMismatchError, match=r"files\.arrow: missing or damaged"):
        folder.claim(SCAN, FILES)


def test_whoever_holds_the_folder_is_known_by_others_who_see_the_same_one(
    folder: ResultsFolder, tmp_path: Path
) -> None:
    with folder.open() as token:
        assert open_results(folder.location.path).is_held_with(token)
        assert not open_results(str(tmp_path / "elsewhere")).is_held_with(token)
        assert not folder.is_held_with("another")
    assert not folder.is_held_with(token)
    with folder.open() as later:
        assert later != token
        assert not folder.is_held_with(token)


def test_a_folder_with_parquet_files_of_something_else_is_refused(folder: ResultsFolder) -> None:
    Path(folder.location.path, "photos.parquet").write_bytes(b"somebody's data")
    with pytest.raises(
        ResumeMismatchError, match=r"holds Parquet files but no scan\.json: give another folder"
    ):
        folder.claim(SCAN, FILES)
    assert [path.name for path in Path(folder.location.path).iterdir()] == ["photos.parquet"]


def test_a_folder_with_other_files_may_be_claimed(folder: ResultsFolder) -> None:
    Path(folder.location.path, "notes.txt").write_text("mine")
    folder.claim(SCAN, FILES)
    assert Path(folder.location.path, "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"'])
def test_a_damaged_scan_record_is_refused_and_left_as_it_is(
    folder: ResultsFolder, content: bytes
) -> None:
    path = Path(folder.location.path, "scan.json")
    path.write_bytes(content)
    with pytest.raises(
        ResumeMismatchError,
        match=r"scan\.json: not readable as a scan's record: .*; give another folder",
    ):
        folder.claim(SCAN, FILES)
    assert path.read_bytes() == content


def test_a_summary_is_read_as_it_was_written(folder: ResultsFolder) -> None:
    assert folder.read_summary() is None
    folder.write_summary({"rows": 3, "sources": {"real": 1}, "note": "é"})
    assert folder.read_summary() == {"rows": 3, "sources": {"real": 1}, "note": "é"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"[1, 2]"])
def test_a_damaged_summary_is_named_with_what_to_do(folder: ResultsFolder, content: bytes) -> None:
    path = Path(folder.location.path, "summary.json")
    path.write_bytes(content)
    with pytest.raises(
        ResultsError, match=f"{path}: damaged: .*; remove it and run the scan again"
    ) as caught:
        folder.read_summary()
    assert caught.value.exit_status == 1


def test_count_sums_up_all_shards(folder: ResultsFolder) -> None:
    folder.commit(0, small_table([0.9, 0.1, np.nan, 0.8], {2: RowError(ErrorCode.MISSING, "gone")}))
    folder.commit(
        1,
        small_table(
            [np.nan, np.nan],
            {0: RowError(ErrorCode.MISSING, "gone"), 1: RowError(ErrorCode.EMPTY, "0")},
        ),
    )
    shards = [Shard(0, (Segment(FILES[0], 0, 4),)), Shard(1, (Segment(FILES[0], 4, 6),))]
    assert folder.count(shards) == {
        "shards": 2,
        "rows": 6,
        "scored": 3,
        "ai": 2,
        "sources": {"real": 1, "sd21": 1, "sdxl": 0, "sd3": 0, "dalle3": 1, "midjourney": 0},
        "errors": {"empty": 1, "missing": 2},
        "error_rate": 0.5,
    }


def test_count_names_a_file_that_is_missing_damaged_or_of_another_size(
    folder: ResultsFolder,
) -> None:
    shards = [Shard(0, (Segment(FILES[0], 0, 2),)), Shard(1, (Segment(FILES[0], 2, 4),))]
    folder.commit(0, small_table([0.1, 0.9]))
    path = Path(folder.location.path, "detections-000001.parquet")
    with pytest.raises(
        ResultsError, match=f"{path}: damaged or missing: .*; remove it and run the scan again"
    ):
        folder.count(shards)
    folder.commit(1, small_table([0.1, 0.9]))
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for damaged in (b"", b"PAR1", whole[:-9], b"\xff" * footer + whole[footer:]):
        path.write_bytes(damaged)
        with pytest.raises(ResultsError, match=f"{path}: damaged or missing: "):
            folder.count(shards)
    folder.commit(1, small_table([0.1]))
    with pytest.raises(
        ResultsError, match=f"{path}: has 1 rows, its shard 2; remove it and run the scan again"
    ):
        folder.count(shards)
    pq.write_table(pa.table({"other": [1, 2]}), path)
    with pytest.raises(ResultsError, match=f"{path}: damaged or missing: "):
        folder.count(shards)


def test_opening_makes_the_folder_and_removes_what_killed_writes_left(tmp_path: Path) -> None:
    folder = open_results(str(tmp_path / "new" / "out"))
    with folder.open():
        folder.commit(0, small_table([0.5]))
    (tmp_path / "new" / "out" / ".detections-000001.parquet.ab.tmp").touch()
    with folder.open():
        assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == [
            ".lock",
            "detections-000000.parquet",
        ]


HOLD_OPEN = """
import sys
from aigid.results import open_results
with open_results(sys.argv[1]).open():
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_another_process_writes_to_is_refused_until_it_ends(
    folder: ResultsFolder,
) -> None:
    leftover = Path(folder.location.path, ".detections-000000.parquet.ab.tmp")
    words = [sys.executable, "-c", HOLD_OPEN, folder.location.path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        leftover.touch()
        with (
            pytest.raises(UsageError, match="another scan is writing to this folder now"),
            folder.open(),
        ):
            pytest.fail("two scans in one folder")
        assert leftover.exists(), "it may be a file that the other scan is writing"
        other.kill()
    with folder.open():
        assert not leftover.exists()


def test_an_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    folder = open_results(str(tmp_path / "taken"))
    with (
        pytest.raises(UsageError, match=f"--out {tmp_path / 'taken'}: cannot be written to: "),
        folder.open(),
    ):
        pytest.fail("a file was opened as a folder")
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_error_while_the_folder_is_open_is_not_taken_for_a_lock(folder: ResultsFolder) -> None:
    # What writing to a full non-blocking pipe raises.
    with pytest.raises(BlockingIOError), folder.open():
        raise BlockingIOError(11, "Resource temporarily unavailable")
    with folder.open():
        pass
