"""The results folder: its commits, and that one folder holds one scan."""

import json
import random
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.result_tables import FILES, SCAN, SCORED_BY, SUMMARY, small_table

from aigid.errors import ResultsError, ResumeMismatchError, UsageError
from aigid.records import ErrorCode, RowError
from aigid.results import ResultsFolder, content_sha256, open_results
from aigid.shards import Shard
from aigid.sources import ManifestFiles, Segment
from aigid.version import __version__

SHARD = Shard(0, (Segment(FILES[0], 0, 1),))


def path_of(folder: ResultsFolder, *names: str) -> Path:
    return Path(folder.location.path, *names)


def names_in(folder: ResultsFolder, *names: str) -> list[str]:
    return sorted(path.name for path in path_of(folder, *names).iterdir())


def test_a_commit_is_a_whole_file_and_the_same_table_gives_the_same_bytes(
    folder: ResultsFolder,
) -> None:
    table = small_table([0.1, 0.9, np.nan], {2: RowError(ErrorCode.EMPTY, "zero bytes")})
    folder.commit(0, table)
    folder.commit(1, table)
    assert names_in(folder, "detections") == ["part-000000.parquet", "part-000001.parquet"]
    first, second = sorted(path_of(folder, "detections").iterdir())
    assert first.read_bytes() == second.read_bytes()
    found = pq.read_table(first)
    assert found.equals(table)
    assert found.schema.metadata == table.schema.metadata


def test_a_result_file_tells_its_shard_and_what_scored_it(folder: ResultsFolder) -> None:
    table = small_table([0.1, 0.9], index=7)
    folder.commit(7, table)
    found = pq.read_metadata(path_of(folder, "detections", "part-000007.parquet")).metadata
    assert {key: value for key, value in found.items() if key != b"ARROW:schema"} == {
        b"aigid.shard": b"7",
        b"aigid.open_set_threshold": b"null",
        b"aigid.content_sha256": content_sha256(table).encode(),
        b"aigid.version": __version__.encode(),
        b"aigid.model": b"tiny",
        b"aigid.fingerprint": b"f1",
        b"aigid.precision": b"int8",
        b"aigid.labels": json.dumps(SCORED_BY.labels).encode(),
        b"aigid.threshold": b"0.5",
        b"aigid.mode": b"best-guess",
        b"aigid.ai_from": b"0.5",
        b"aigid.real_below": b"0.5",
    }


def test_a_flipped_byte_in_a_page_is_found_by_its_checksum(folder: ResultsFolder) -> None:
    folder.commit(0, small_table(np.linspace(0, 1, 9).tolist()))
    path = path_of(folder, "detections", "part-000000.parquet")
    column = pq.read_metadata(path).row_group(0).column(3)
    assert column.path_in_schema == "p_ai"
    data = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    data[begin + column.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC checksum verification failed"):
        pq.read_table(path, page_checksum_verification=True)
    with pytest.raises(ResultsError, match=f"{path}: damaged or missing: .*checksum"):
        folder.read(Shard(0, (Segment(FILES[0], 0, 9),)), ["p_ai"])


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.struct([("files", pa.list_(pa.binary()))])],
    ids=["flat", "nested"],
)
def test_large_kept_columns_are_in_small_row_groups_and_can_be_read_back(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType
) -> None:
    monkeypatch.setattr("aigid.results.folder._ROW_GROUP_BYTES", 100_000)
    contents = [random.Random(row).randbytes(9000) for row in range(100)]
    rows = contents if kind == pa.binary() else [{"files": [data, None]} for data in contents]
    table = small_table([0.5] * 100).append_column("kept", pa.array(rows, kind))
    folder.commit(0, table)
    path = path_of(folder, "detections", "part-000000.parquet")
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert max(groups) <= 12
    assert pq.read_table(path).equals(table)


def test_committed_gives_the_shards_whose_files_exist(folder: ResultsFolder) -> None:
    assert folder.committed() == set()
    for index in (0, 2, 9):
        folder.commit(index, small_table([0.5]))
    for name in (".part-000001.parquet.ab.tmp", "part-3.parquet", "part-000004.parquet.bak"):
        path_of(folder, "detections", name).touch()
    path_of(folder, "part-000005.parquet").touch()
    assert folder.committed() == {0, 2, 9}


def test_a_commit_into_a_folder_that_is_gone_names_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        open_results(str(tmp_path / "gone")).commit(0, small_table([0.5]))
    assert str(caught.value) == (
        f"{tmp_path / 'gone'}: cannot write detections/part-000000.parquet: No such file or "
        "directory; committed shards stay: solve the problem, then run the same command again"
    )
    assert caught.value.exit_status == 1


def test_a_scan_claims_an_empty_folder_and_may_claim_it_again(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    before = path_of(folder, "scan.json").read_bytes()
    values = json.loads(before)
    assert values.pop("manifests") == ["m.parquet"]
    assert values["settings"].pop("columns") == {
        "image": "image",
        "prompt": None,
        "keep": [],
        "others": [],
    }
    assert values.keys() == asdict(SCAN).keys() - {"manifests"}
    folder.claim(SCAN, FILES)
    assert path_of(folder, "scan.json").read_bytes() == before


def test_another_scan_is_refused_with_every_difference(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    before = path_of(folder, "scan.json").read_bytes()
    other = replace(SCAN, shards=2, settings=replace(SCAN.settings, threshold=0.9))
    with pytest.raises(ResumeMismatchError) as caught:
        folder.claim(other, FILES)
    assert str(caught.value) == (
        f"{folder.location.text}: holds a scan of another input, model or settings; differing: "
        "settings.threshold: 0.5 -> 0.9; shards: 1 -> 2. Give another folder, or the same input "
        "and settings to resume"
    )
    assert path_of(folder, "scan.json").read_bytes() == before


def test_other_files_are_refused_and_the_record_stays(folder: ResultsFolder) -> None:
    folder.claim(SCAN, FILES)
    files = ManifestFiles([replace(FILES[0], size_bytes=11)])
    with pytest.raises(ResumeMismatchError, match=r"differing: input: m\.parquet: another size"):
        folder.claim(SCAN, files)
    assert folder.recorded_files() == FILES


@pytest.mark.parametrize("content", [None, b"", b"ARROW1", b"PAR1"])
def test_a_record_of_files_that_cannot_be_read_is_no_record(
    folder: ResultsFolder, content: bytes | None
) -> None:
    folder.claim(SCAN, FILES)
    path = path_of(folder, "files.arrow")
    path.unlink() if content is None else path.write_bytes(content)
    assert folder.recorded_files() is None
    with pytest.raises(ResumeMismatchError, match=r"files\.arrow: missing or damaged"):
        folder.claim(SCAN, FILES)


def test_the_holder_of_a_folder_is_known_to_others_who_see_the_same_one(
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


@pytest.mark.parametrize("place", [(), ("detections",)])
def test_a_folder_with_parquet_files_of_something_else_is_refused(
    folder: ResultsFolder, place: tuple[str, ...]
) -> None:
    path_of(folder, *place, "photos.parquet").write_bytes(b"somebody's data")
    with pytest.raises(
        ResumeMismatchError, match=r"holds Parquet files but no scan\.json: give another folder"
    ):
        folder.claim(SCAN, FILES)
    assert not path_of(folder, "scan.json").exists()


def test_a_folder_with_other_files_may_be_claimed(folder: ResultsFolder) -> None:
    path_of(folder, "notes.txt").write_text("mine")
    folder.claim(SCAN, FILES)
    assert path_of(folder, "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"', b'{"format": 6}']
)
def test_a_damaged_scan_record_is_refused_and_left_as_it_is(
    folder: ResultsFolder, content: bytes
) -> None:
    path = path_of(folder, "scan.json")
    path.write_bytes(content)
    with pytest.raises(
        ResumeMismatchError,
        match=r"scan\.json: not readable as a scan's record: .*; give another folder",
    ):
        folder.claim(SCAN, FILES)
    assert path.read_bytes() == content


OLD_FORMS = {
    "old result files": ({"format": 2}, ["detections-000000.parquet"], r"detections-\*\.parquet"),
    "an old record": ({"format": 2}, [], "format 2"),
    "a record without a format": ({}, [], "format None"),
    "a newer record": ({"format": 7}, [], "format 7"),
}


@pytest.mark.parametrize("name", OLD_FORMS)
def test_results_of_another_version_are_refused_with_what_to_do(
    folder: ResultsFolder, name: str
) -> None:
    record, files, found = OLD_FORMS[name]
    path_of(folder, "scan.json").write_text(json.dumps(record))
    for file in files:
        path_of(folder, file).touch()
    with pytest.raises(
        ResumeMismatchError,
        match=f"{folder.location.text}: holds results of another version of aigid .*{found}.*, "
        "and this version continues format 6 only: give another folder as `out`$",
    ):
        folder.refuse_other_formats()


def test_a_folder_of_this_format_or_without_a_scan_is_not_refused(folder: ResultsFolder) -> None:
    folder.refuse_other_formats()
    folder.claim(SCAN, FILES)
    folder.refuse_other_formats()
    open_results(f"{folder.location.path}/none").refuse_other_formats()


def test_a_summary_is_read_as_it_was_written(folder: ResultsFolder) -> None:
    assert folder.read_summary() is None
    folder.write_summary(SUMMARY)
    assert folder.read_summary() == SUMMARY
    assert json.loads(path_of(folder, "summary.json").read_text()) == SUMMARY.to_json()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b"[1, 2]"])
def test_a_damaged_summary_is_named_with_what_to_do(folder: ResultsFolder, content: bytes) -> None:
    path = path_of(folder, "summary.json")
    path.write_bytes(content)
    with pytest.raises(
        ResultsError, match=f"{path}: damaged: .*; remove it and run the scan again"
    ) as caught:
        folder.read_summary()
    assert caught.value.exit_status == 1


def test_the_summary_of_another_version_is_not_called_damaged(folder: ResultsFolder) -> None:
    path_of(folder, "summary.json").write_text('{"format": 2, "rows": 3}')
    with pytest.raises(ResumeMismatchError, match=r"another version of aigid \(format 2\)"):
        folder.read_summary()


def test_opening_makes_the_folders_and_removes_what_killed_writes_left(tmp_path: Path) -> None:
    folder = open_results(str(tmp_path / "new" / "out"))
    with folder.open():
        folder.commit(0, small_table([0.5]))
    path_of(folder, "detections", ".part-000001.parquet.ab.tmp").touch()
    path_of(folder, ".summary.json.ab.tmp").touch()
    with folder.open():
        assert names_in(folder) == [".lock", "detections"]
        assert names_in(folder, "detections") == ["part-000000.parquet"]


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
    leftover = path_of(folder, "detections", ".part-000000.parquet.ab.tmp")
    words = [sys.executable, "-c", HOLD_OPEN, folder.location.path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        leftover.touch()
        with (
            pytest.raises(
                UsageError, match=f"`out` {folder.location.text}: another scan is writing to this"
            ),
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
        pytest.raises(UsageError, match=f"`out` {tmp_path / 'taken'}: cannot be written to: "),
        folder.open(),
    ):
        pytest.fail("a file was opened as a folder")
    assert (tmp_path / "taken").read_text() == "mine"


def test_an_error_while_the_folder_is_open_is_not_taken_for_a_lock(folder: ResultsFolder) -> None:
    # Writing to a full non-blocking pipe raises this.
    with pytest.raises(BlockingIOError), folder.open():
        raise BlockingIOError(11, "Resource temporarily unavailable")
    with folder.open():
        pass


def test_read_gives_the_columns_asked_for(folder: ResultsFolder) -> None:
    folder.commit(0, small_table([0.25]))
    table = folder.read(SHARD, ["row", "p_ai"])
    assert table.equals(pa.table({"row": [0], "p_ai": pa.array([0.25], pa.float32())}))
