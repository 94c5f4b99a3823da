"""`aigid verify` after real scans: damaged, repaired, killed at any write, started again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from support.manifests import manifest_table
from support.object_store import CREDENTIALS, object_store
from support.result_tables import manifest_of
from support.scan_results import result_files
from support.sound_results import sound_results

from aigid.cli.main import main
from aigid.results import open_results, verify_results
from aigid.storage import Location, write_atomic

Aigid = Callable[..., Result]
SHARDS = 5


def aigid(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shards of eight rows, with errors in some."""
    images = manifest_table(40)["Image"].to_pylist()
    images[3] = images[20] = None
    path = tmp_path_factory.mktemp("manifest") / "manifest.parquet"
    table = pa.table({"image": images, "id": range(40)})
    pq.write_table(table, path, row_group_size=8)
    return path


@pytest.fixture(scope="module")
def scanned(
    tiny_repository: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The results of the whole scan."""
    out = tmp_path_factory.mktemp("scanned") / "results"
    assert scan_again(tiny_repository, manifest, out).exit_code == 0
    assert len(result_files(out)) == SHARDS
    return out


@pytest.fixture
def out(scanned: Path, tmp_path: Path) -> Path:
    """A copy of the scan's results."""
    shutil.copytree(scanned, tmp_path / "results")
    return tmp_path / "results"


def scan_again(repository: Path, manifest: Path, out: object) -> Result:
    return aigid(
        *("scan", manifest, "--out", out, "--model", repository),
        *("--shard-rows", 8, "--keep", "id", "--max-error-rate", 1),
    )


def contents(out: Path, *left_out: str) -> dict[str, bytes]:
    paths = [path for path in out.rglob("*") if path.is_file() and path.name not in left_out]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def part(out: Path, index: int) -> Path:
    return out / "detections" / f"part-{index:06d}.parquet"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def edit(path: Path) -> None:
    table = pq.read_table(path)
    changed = pa.array([row // 2 for row in range(len(table))], pa.int64())
    pq.write_table(table.set_column(table.schema.get_field_index("id"), "id", changed), path)


def test_a_finished_scan_is_sound(out: Path) -> None:
    result = aigid("verify", out)
    assert result.exit_code == 0
    assert result.stdout == f"{out}: sound: 40 rows in 5 result files\n"
    assert json.loads(aigid("verify", out, "--json").stdout) == {
        "is_sound": True,
        "sound_shards": 5,
        "sound_rows": 40,
        "findings": [],
    }


def test_progress_is_shown_on_stderr_and_silenced_by_q(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigid.progress_bar.LINE_EVERY_S", 0)
    lines = aigid("verify", out).stderr.splitlines()
    assert lines[0] == "verify: 40 rows"
    assert len(lines) == 1 + SHARDS
    assert lines[-1].startswith("verify: 40 of 40 rows, ")
    part(out, 2).unlink()
    assert ", 1 error, " in aigid("verify", out, "--repair").stderr.splitlines()[-1]
    assert aigid("verify", out, "-q").stderr == ""


def test_progress_without_records_has_no_total(out: Path) -> None:
    (out / "shards.arrow").unlink()
    assert aigid("verify", out).stderr == "verify: 40 rows\n"
    (out / "scan.json").write_text("[]")
    assert aigid("verify", out).stderr == "verify: at least 0 rows\n"


def test_findings_are_lines_by_file_and_row_and_verify_changes_nothing(out: Path) -> None:
    part(out, 1).unlink()
    edit(part(out, 3))
    before = contents(out)
    result = aigid("verify", f"{out}/")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"{out}/detections/part-000001.parquet: missing: the result file of shard 1"
    assert lines[1].startswith(f"{out}/detections/part-000003.parquet: edited: ")
    assert lines[2].endswith(
        "findings: 2; give --repair to remove what is bad, then run the same scan again"
    )
    found = json.loads(aigid("verify", out, "--json").stdout)
    assert (found["is_sound"], found["sound_shards"], found["sound_rows"]) == (False, 3, 24)
    assert found["findings"][0] == {
        "kind": "missing",
        "file": "detections/part-000001.parquet",
        "detail": "the result file of shard 1",
        "repair": "scan",
        "row": None,
    }
    assert contents(out) == before


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "edited": lambda out: edit(part(out, 3)),
    "cut": lambda out: cut(part(out, 0)),
    "missing": lambda out: part(out, 4).unlink(),
    "doubled": lambda out: shutil.copy(part(out, 1), part(out, 2)),
    "after the last": lambda out: shutil.copy(part(out, 1), part(out, 7)),
    "record": lambda out: (out / "scan.json").write_text("{}"),
    "files": lambda out: cut(out / "files.arrow"),
    "list": lambda out: cut(out / "shards.arrow"),
    "no list": lambda out: (out / "shards.arrow").unlink(),
    "summary": lambda out: cut(out / "summary.json"),
    "leftover": lambda out: (out / ".scan.json.12345678.tmp").touch(),
    "all records": lambda out: [
        DAMAGES[name](out) for name in ("record", "files", "summary", "edited", "doubled")
    ],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_after_a_repair_the_same_scan_gives_the_same_bytes(
    name: str, tiny_repository: Path, manifest: Path, out: Path
) -> None:
    whole = contents(out, "summary.json")
    DAMAGES[name](out)
    assert aigid("verify", out).exit_code == 1
    repaired = aigid("verify", out, "--repair")
    assert repaired.exit_code == 0, repaired.output
    assert repaired.stdout.endswith("run the same scan again\n")
    again = scan_again(tiny_repository, manifest, out)
    assert again.exit_code == 0, again.output
    assert contents(out, "summary.json") == whole
    assert aigid("verify", out).exit_code == 0


@pytest.mark.parametrize("name", ["edited", "cut", "missing", "doubled"])
def test_a_finished_scan_that_is_started_again_makes_damaged_shards_anew(
    name: str, tiny_repository: Path, manifest: Path, out: Path
) -> None:
    whole = contents(out, "summary.json")
    DAMAGES[name](out)
    again = scan_again(tiny_repository, manifest, out)
    assert again.exit_code == 0, again.output
    assert ("changed since the scan finished" in again.stderr) == (name != "missing")
    assert contents(out, "summary.json") == whole
    assert json.loads((out / "summary.json").read_text())["run"]["rows"] == 8


def test_a_finished_scan_that_is_started_again_names_what_is_not_its_own(
    tiny_repository: Path, manifest: Path, out: Path
) -> None:
    shutil.copy(part(out, 0), out / "detections" / "copy.parquet")
    before = contents(out)
    again = scan_again(tiny_repository, manifest, out)
    assert again.exit_code == 0
    assert "not files of this scan: copy.parquet; move them away" in again.stderr
    assert contents(out) == before


def test_a_folder_that_was_finished_without_a_list_gets_one_and_keeps_its_summary(
    tiny_repository: Path, manifest: Path, out: Path
) -> None:
    whole = contents(out)
    (out / "shards.arrow").unlink()
    assert scan_again(tiny_repository, manifest, out).exit_code == 0
    assert contents(out) == whole


@pytest.mark.parametrize("record", ["scan.json", "files.arrow"])
def test_a_finished_scan_with_a_damaged_record_says_what_to_do(
    record: str, tiny_repository: Path, manifest: Path, out: Path
) -> None:
    whole = contents(out)
    cut(out / record)
    refused = scan_again(tiny_repository, manifest, out)
    assert refused.exit_code == 2
    assert record in refused.stderr
    assert "run `aigid verify --repair` first" in refused.stderr
    assert aigid("verify", out, "--repair").exit_code == 0
    assert scan_again(tiny_repository, manifest, out).exit_code == 0
    assert contents(out) == whole


def test_another_scan_is_refused_before_any_file_is_removed(
    tiny_repository: Path, manifest: Path, out: Path
) -> None:
    edit(part(out, 3))
    before = contents(out)
    refused = aigid("scan", manifest, "--out", out, "--model", tiny_repository, "--limit", 9)
    assert refused.exit_code == 2
    assert contents(out) == before


def test_the_list_of_another_scan_removes_nothing(
    tiny_repository: Path, manifest: Path, out: Path, tmp_path: Path
) -> None:
    sound_results(tmp_path / "other", manifest_of({"m.parquet": 15}))
    whole = contents(out)
    shutil.copy(tmp_path / "other" / "shards.arrow", out)
    assert aigid("verify", out).exit_code == 1
    assert scan_again(tiny_repository, manifest, out).exit_code == 0
    assert contents(out) == whole


class Killed(BaseException):
    """What ends a scan as a kill does: nothing catches it."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", range(SHARDS + 4))
def test_a_scan_that_ends_at_any_write_is_unfinished_and_sound_when_resumed(
    write: int,
    after: bool,
    tiny_repository: Path,
    manifest: Path,
    scanned: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes = 0

    def killed_write(location: Location, data: bytes | pa.Buffer) -> None:
        nonlocal writes
        writes += 1
        if writes == write + 1 and not after:
            raise Killed
        write_atomic(location, data)
        if writes == write + 1:
            raise Killed

    out = tmp_path / "results"
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("aigid.results.folder.write_atomic", killed_write)
        scan_again(tiny_repository, manifest, out)
    found = aigid("verify", out, "--json")
    finished = after and write == SHARDS + 3
    assert found.exit_code == (0 if finished else 1)
    if write > 1:
        kinds = {finding["kind"] for finding in json.loads(found.stdout)["findings"]}
        assert kinds <= {"unfinished", "missing"}
    assert scan_again(tiny_repository, manifest, out).exit_code == 0
    assert aigid("verify", out).exit_code == 0
    assert contents(out, "summary.json") == contents(scanned, "summary.json")


def test_a_repair_waits_for_no_scan_and_removes_nothing_of_it(out: Path) -> None:
    cut(part(out, 1))
    with open_results(str(out)).open():
        refused = aigid("verify", out, "--repair")
        assert refused.exit_code == 2
        assert f"DIR {out}: another scan is writing to this folder now" in refused.stderr
        assert part(out, 1).exists()


def test_no_results_there_is_a_usage_error(tmp_path: Path) -> None:
    for words in ((), ("--repair",)):
        refused = aigid("verify", tmp_path / "none", *words)
        assert refused.exit_code == 2
        assert refused.stderr == f"aigid: DIR {tmp_path / 'none'}: no results of a scan there\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.integration
def test_results_in_an_object_store_are_verified_and_repaired(
    tiny_repository: Path, manifest: Path, scanned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with object_store() as store:
        out = store.uri("results")
        assert scan_again(tiny_repository, manifest, out).exit_code == 0
        assert list(verify_results(open_results(out))) == []
        key = "results/detections/part-000002.parquet"
        store.put(key, part(scanned, 2).read_bytes()[:-9])
        store.put("results/detections/part-000001.parquet", part(scanned, 3).read_bytes())
        store.put("results/detections/more.txt", b"mine")
        found = aigid("verify", out, "--repair")
        assert found.exit_code == 1, found.output
        kinds = [finding.split(": ")[1] for finding in found.stdout.splitlines()[:3]]
        assert kinds == ["doubled", "truncated", "foreign"]
        assert scan_again(tiny_repository, manifest, out).exit_code == 0
        found = aigid("verify", out, "--json")
        assert [one["kind"] for one in json.loads(found.stdout)["findings"]] == ["foreign"]
        with store.files.open_input_stream(f"data/{key}") as stream:
            assert stream.read() == part(scanned, 2).read_bytes()
