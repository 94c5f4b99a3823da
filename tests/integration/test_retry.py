"""`aigid scan --retry-errors`: failed rows are scanned again, and nothing else changes."""

import csv
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image, PngImagePlugin
from support.manifests import CAPTIONS, encoded_image
from support.object_store import CREDENTIALS, object_store
from support.scan_process import start_scan, wait_until
from support.scan_results import result_files, result_rows, summary_of
from support.web_server import Answer, web_server

import aigid
from aigid.cli.main import main
from aigid.errors import ResumeMismatchError, UsageError
from aigid.results import open_results, verify_results
from aigid.storage import Location, remove_file, write_atomic

ROWS, SHARD_ROWS = 40, 8
# Shard 0 and 4 have no failed row, 1 has missing ones, 2 a damaged one, 3 both.
MISSING, DAMAGED = (9, 14, 26), (20, 27)
Scan = Callable[..., Result]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The folder of a manifest's images: some are missing, some damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    restore(folder, *range(ROWS))
    for row in MISSING:
        (folder / f"{row}.png").unlink()
    for row in DAMAGED:
        (folder / f"{row}.png").write_bytes(b"no image")
    return folder


def restore(folder: Path, *rows: int) -> None:
    for row in rows:
        (folder / f"{row}.png").write_bytes(encoded_image(row))


@pytest.fixture
def manifest(images: Path, tmp_path: Path) -> Path:
    """Five shards of eight rows."""
    path = tmp_path / "manifest.parquet"
    columns = {
        "image": [f"images/{row}.png" for row in range(ROWS)],
        "prompt": [CAPTIONS[row % len(CAPTIONS)] for row in range(ROWS)],
        "id": range(ROWS),
    }
    pq.write_table(pa.table(columns), path, row_group_size=SHARD_ROWS)
    return path


@pytest.fixture
def scan(tiny_repository: Path, manifest: Path, tmp_path: Path) -> Scan:
    """Scans the manifest in this process with the tiny model, into `results`."""

    def run(*options: object, out: object = tmp_path / "results", source: Any = manifest) -> Result:
        words = ["scan", source, "--out", out, "--model", tiny_repository, "--keep", "id"]
        words += ["--shard-rows", SHARD_ROWS, "--max-error-rate", 1, *options]
        return CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)

    return run


def contents(out: Path, *left_out: str) -> dict[str, bytes]:
    paths = [path for path in out.rglob("*") if path.is_file() and path.name not in left_out]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def failed_rows(out: Path) -> dict[int, object]:
    return {
        position: row["error"]
        for position, row in enumerate(result_rows(out))
        if row["error"] is not None
    }


def is_sound(out: Path) -> bool:
    return not list(verify_results(open_results(str(out))))


def test_after_the_cause_is_mended_a_retry_gives_what_a_whole_scan_gives(
    scan: Scan, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    assert scan().exit_code == 0
    assert failed_rows(out) == {
        **dict.fromkeys(MISSING, "missing"),
        20: "undecodable",
        27: "undecodable",
    }
    before = {path.name: path.stat().st_mtime_ns for path in result_files(out)}
    restore(images, *MISSING, *DAMAGED)
    retried = scan("--retry-errors")
    assert retried.exit_code == 0, retried.output
    assert "rows that were scanned again: 5; scored now: 5; failed again: 0" in retried.stderr
    assert scan(out=tmp_path / "whole").exit_code == 0
    assert contents(out, "summary.json") == contents(tmp_path / "whole", "summary.json")
    same = [path.name for path in result_files(out) if path.stat().st_mtime_ns == before[path.name]]
    assert same == ["part-000000.parquet", "part-000004.parquet"]
    assert is_sound(out)
    summary = summary_of(out)
    assert (summary["scored"], summary["errors"], summary["error_examples"]) == (ROWS, {}, {})
    assert summary["run"]["rows"] == 5


def test_evidence_of_other_rows_is_kept_and_that_of_retried_ones_read_again(
    scan: Scan, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    labelled = PngImagePlugin.PngInfo()
    labelled.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, Seed: 1, Model: sdxl")
    for row in (8, 9, 24, 39):
        Image.new("RGB", (40, 40)).save(images / f"{row}.png", pnginfo=labelled)
    (images / "9.png").rename(tmp_path / "9.png")
    assert scan("--evidence").exit_code == 0
    assert summary_of(out)["evidence"] == {"ai": 3, "camera": 0, "edited": 0, "none": 34}
    (tmp_path / "9.png").rename(images / "9.png")
    restore(images, *DAMAGED)
    assert scan("--evidence", "--retry-errors").exit_code == 0
    assert summary_of(out)["evidence"] == {"ai": 4, "camera": 0, "edited": 0, "none": 34}
    scan("--evidence", out=tmp_path / "whole")
    assert contents(out, "summary.json") == contents(tmp_path / "whole", "summary.json")
    assert is_sound(out)


def test_only_rows_with_the_codes_are_scanned_again(
    scan: Scan, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    scan()
    before = contents(out)
    restore(images, 9, 20, 27)
    retried = scan("--retry-errors", "timeout,missing")
    assert "rows that were scanned again: 3; scored now: 1; failed again: 2" in retried.stderr
    left = {14: "missing", 20: "undecodable", 26: "missing", 27: "undecodable"}
    assert failed_rows(out) == left
    after = contents(out)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"detections/part-000001.parquet", "shards.arrow", "summary.json"}
    assert is_sound(out)
    assert scan("--retry-errors=undecodable").exit_code == 0
    assert failed_rows(out) == {14: "missing", 26: "missing"}


@pytest.mark.parametrize("threshold", [0.3, 0.97])
def test_a_relabelled_folder_is_retried_with_its_new_settings(
    threshold: float, scan: Scan, images: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "results", ["--threshold", threshold]
    scan("--hash")
    words = ["relabel", out, "--in-place", *options]
    relabelled = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
    assert relabelled.exit_code == 0, relabelled.output
    restore(images, *MISSING, *DAMAGED)
    assert scan("--hash", "--retry-errors").exit_code == 2
    assert scan("--hash", *options, "--retry-errors").exit_code == 0
    scan("--hash", *options, out=tmp_path / "whole")
    assert [path.read_bytes() for path in result_files(out)] == [
        path.read_bytes() for path in result_files(tmp_path / "whole")
    ]
    assert is_sound(out)


def test_rows_that_fail_again_leave_all_bytes_as_they_are(scan: Scan, tmp_path: Path) -> None:
    scan()
    before = contents(tmp_path / "results", "summary.json")
    retried = scan("--retry-errors")
    assert "rows that were scanned again: 5; scored now: 0; failed again: 5" in retried.stderr
    assert contents(tmp_path / "results", "summary.json") == before


def test_a_row_may_fail_again_for_another_reason(scan: Scan, images: Path, tmp_path: Path) -> None:
    scan()
    (images / "9.png").write_bytes(b"")
    (images / "20.png").unlink()
    scan("--retry-errors")
    found = failed_rows(tmp_path / "results")
    assert (found[9], found[20]) == ("empty", "missing")
    assert is_sound(tmp_path / "results")


@pytest.mark.parametrize("codes", ["--retry-errors=timeout", "--retry-errors=empty,forbidden"])
def test_without_such_rows_there_is_nothing_to_retry(
    codes: str, scan: Scan, tmp_path: Path
) -> None:
    scan()
    before = contents(tmp_path / "results")
    retried = scan(codes)
    assert retried.exit_code == 0
    assert "nothing to retry" in retried.stderr
    assert contents(tmp_path / "results") == before


def test_a_scan_without_errors_has_nothing_to_retry(
    scan: Scan, images: Path, tmp_path: Path
) -> None:
    restore(images, *MISSING, *DAMAGED)
    scan()
    before = contents(tmp_path / "results")
    assert "nothing to retry" in scan("--retry-errors").stderr
    assert contents(tmp_path / "results") == before


def test_missing_shards_are_scanned_as_well(scan: Scan, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    scan()
    for path in result_files(out)[2:4]:
        path.unlink()
    (out / "summary.json").unlink()
    restore(images, *MISSING)
    retried = scan("--retry-errors")
    assert "rows that were scanned again: 2; scored now: 2; failed again: 0" in retried.stderr
    assert summary_of(out)["run"]["rows"] == 2 * SHARD_ROWS + 2
    scan(out=tmp_path / "whole")
    assert contents(out, "summary.json") == contents(tmp_path / "whole", "summary.json")


def test_a_folder_without_results_is_scanned(scan: Scan, tmp_path: Path) -> None:
    first = scan("--retry-errors")
    assert first.exit_code == 0
    assert "nothing to retry" in first.stderr
    assert is_sound(tmp_path / "results")


class Killed(BaseException):
    """What ends a scan as a kill does: nothing catches it."""


# A retry removes two records, writes three result files, the list and the summary.
@pytest.mark.parametrize("option", ["--retry-errors", "--threads=1"], ids=["with", "without"])
@pytest.mark.parametrize("change", range(7))
def test_killed_before_any_change_of_the_folder_nothing_is_lost_and_the_next_scan_finishes(
    change: int,
    option: str,
    scan: Scan,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "results"
    scan()
    before = {name: rows_of(path) for name, path in named(out)}
    restore(images, *MISSING, *DAMAGED)
    changes = 0

    def killed(action: Callable[..., None], *arguments: object) -> None:
        nonlocal changes
        changes += 1
        if changes == change + 1:
            raise Killed
        action(*arguments)

    def killed_write(location: Location, data: bytes | pa.Buffer) -> None:
        killed(write_atomic, location, data)

    def killed_removal(location: Location) -> None:
        killed(remove_file, location)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("aigid.results.folder.write_atomic", killed_write)
        patched.setattr("aigid.results.folder.remove_file", killed_removal)
        scan("--retry-errors")
    kinds = {one.kind.value for one in verify_results(open_results(str(out)))}
    assert kinds <= {"unfinished", "missing"}
    for name, path in named(out):
        assert rows_of(path) == before[name] or not any(row["error"] for row in rows_of(path))
    ended = scan(option)
    assert ended.exit_code == 0, ended.output
    assert is_sound(out)
    if option == "--retry-errors":
        scan(out=tmp_path / "whole")
        assert contents(out, "summary.json") == contents(tmp_path / "whole", "summary.json")
    assert not list(out.rglob(".*.tmp"))


def named(out: Path) -> list[tuple[str, Path]]:
    return [(path.name, path) for path in result_files(out)]


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_a_retry_that_was_killed_scans_no_whole_shard_again(
    scan: Scan, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan()
    restore(images, *MISSING, *DAMAGED)

    def killed(location: Location, data: bytes | pa.Buffer) -> None:
        write_atomic(location, data)
        if "part-000002" in location.text:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("aigid.results.folder.write_atomic", killed)
        scan("--retry-errors")
    again = scan("--retry-errors")
    assert "changed" not in again.stderr
    assert "rows that were scanned again: 2; scored now: 2; failed again: 0" in again.stderr
    assert summary_of(tmp_path / "results")["run"]["rows"] == 2


def test_a_manifest_that_changed_is_refused_and_nothing_is_touched(
    scan: Scan, manifest: Path, tmp_path: Path
) -> None:
    scan()
    before = contents(tmp_path / "results")
    pq.write_table(pq.read_table(manifest).slice(1), manifest)
    refused = scan("--retry-errors")
    assert refused.exit_code == 2
    assert "differing: " in refused.stderr
    manifest.unlink()
    assert scan("--retry-errors").exit_code == 2
    assert contents(tmp_path / "results") == before


@pytest.mark.parametrize(
    "options", [["--limit", 30], ["--threshold", 0.7], ["--no-prompts"], ["--keep", "prompt"]]
)
def test_another_scan_is_refused_and_nothing_is_touched(
    options: list[object], scan: Scan, tmp_path: Path
) -> None:
    scan()
    before = contents(tmp_path / "results")
    refused = scan("--retry-errors", *options)
    assert refused.exit_code == 2
    assert "holds a scan of another input, model or settings" in refused.stderr
    assert contents(tmp_path / "results") == before


@pytest.mark.parametrize("codes", ["gone", "timeout;missing", "404", "", "all,missing"])
def test_a_code_that_does_not_exist_is_refused_with_those_that_do(
    codes: str, scan: Scan, tmp_path: Path
) -> None:
    refused = scan("--retry-errors", codes)
    assert refused.exit_code == 2
    text = " ".join(refused.stderr.split())
    assert "is not an error code: give empty, missing, forbidden, timeout," in text
    assert not (tmp_path / "results").exists()


def test_a_manifest_after_the_option_is_not_taken_for_codes(
    tiny_repository: Path, manifest: Path, tmp_path: Path
) -> None:
    words = ["scan", "--retry-errors", str(manifest), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(main, words)
    assert refused.exit_code == 2
    assert "give the option without a value, after the manifests" in " ".join(
        refused.stderr.split()
    )


def test_a_damaged_result_file_stops_the_retry(scan: Scan, tmp_path: Path) -> None:
    out = tmp_path / "results"
    scan()
    (out / "shards.arrow").unlink()
    file = result_files(out)[1]
    file.write_bytes(file.read_bytes()[:-30])
    refused = scan("--retry-errors")
    assert refused.exit_code == 1
    assert f"{file.name}: damaged" in refused.stderr


@pytest.mark.parametrize("form", ["csv", "folder"])
def test_tables_and_folders_are_retried_alike(
    form: str, tiny_repository: Path, images: Path, tmp_path: Path
) -> None:
    source, name = images, "metadata.csv"
    if form == "csv":
        source = tmp_path / "m.csv"
        name = "../m.csv"
    with (images / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name" if form == "folder" else "image", "prompt"])
        prefix = "" if form == "folder" else "images/"
        writer.writerows([f"{prefix}{row}.png", "a cat"] for row in range(ROWS))

    def run(out: str, **options: Any) -> aigid.ScanSummary:
        return aigid.scan(
            source,
            out=tmp_path / out,
            model=tiny_repository,
            shard_rows=8,
            progress=False,
            **options,
        )

    assert run("out").errors == {"missing": 3, "undecodable": 2}
    restore(images, *MISSING)
    assert run("out", retry_errors="missing").errors == {"undecodable": 2}
    assert run("whole").errors == {"undecodable": 2}
    assert contents(tmp_path / "out", "summary.json") == contents(
        tmp_path / "whole", "summary.json"
    )


def test_python_takes_true_a_code_or_codes(
    tiny_repository: Path, manifest: Path, images: Path, tmp_path: Path
) -> None:
    def run(**options: Any) -> aigid.ScanSummary:
        return aigid.scan(
            manifest, out=tmp_path / "out", model=tiny_repository, progress=False, **options
        )

    assert run().errors == {"missing": 3, "undecodable": 2}
    restore(images, 9, 20)
    assert run(retry_errors=["missing", "timeout"]).errors == {"missing": 2, "undecodable": 2}
    assert run(retry_errors="undecodable").errors == {"missing": 2, "undecodable": 1}
    restore(images, *MISSING, *DAMAGED)
    assert run(retry_errors=False).errors == {"missing": 2, "undecodable": 1}
    assert run(retry_errors=True).errors == {}
    for wrong in ("", "gone", (), ["missing", "x"], 1, None, [3]):
        with pytest.raises(UsageError, match="`retry_errors`"):
            run(retry_errors=wrong)
    with pytest.raises(ResumeMismatchError):
        run(retry_errors=True, limit=3)


@pytest.mark.integration
def test_a_server_that_answers_again_gives_its_rows(tiny_repository: Path, tmp_path: Path) -> None:
    with web_server() as site:
        paths = [f"/{row}.png" for row in range(20)]
        for row, path in enumerate(paths):
            answer = Answer(b"gone", 404) if row % 3 == 0 else Answer(encoded_image(row))
            site.serve(path, answer)
        pq.write_table(
            pa.table({"url": [site.address + path for path in paths]}), tmp_path / "m.parquet"
        )

        def run(out: str, **options: Any) -> aigid.ScanSummary:
            return aigid.scan(
                tmp_path / "m.parquet",
                out=tmp_path / out,
                model=tiny_repository,
                shard_rows=5,
                allow_private_addresses=True,
                progress=False,
                **options,
            )

        assert run("out").errors == {"missing": 7}
        for row, path in enumerate(paths):
            site.serve(path, Answer(encoded_image(row)))
        site.requests.clear()
        assert run("out", retry_errors="missing").errors == {}
        assert sorted(site.requests) == sorted(paths[::3])
        run("whole")
    assert contents(tmp_path / "out", "summary.json") == contents(
        tmp_path / "whole", "summary.json"
    )


@pytest.mark.integration
def test_results_in_an_object_store_get_new_versions(
    scan: Scan, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with object_store() as store:
        out = store.uri("results")
        assert scan(out=out).exit_code == 0
        before = store.contents("results")
        restore(images, *MISSING, *DAMAGED)
        retried = scan("--retry-errors", out=out)
        assert retried.exit_code == 0, retried.output
        found = store.contents("results")
        assert scan(out=tmp_path / "whole").exit_code == 0
        for path in result_files(tmp_path / "whole"):
            assert found[f"detections/{path.name}"] == path.read_bytes()
        assert found.keys() == before.keys()
        assert json.loads(found["summary.json"])["errors"] == {}
        assert not list(verify_results(open_results(out)))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("shards", "kills"), [(16, 3), pytest.param(180, 50, marks=pytest.mark.soak)]
)
def test_retries_that_are_killed_at_random_moments_lose_nothing(
    shards: int, kills: int, tiny_repository: Path, tmp_path: Path
) -> None:
    rows, out = 20 * shards, tmp_path / "out"
    folder = tmp_path / "images"
    folder.mkdir()
    columns = {"image": [f"images/{row}.png" for row in range(rows)]}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet", row_group_size=20)
    words = [tmp_path / "m.parquet", out, "--model", tiny_repository, "--shard-rows", 20]
    restore(folder, *(row for row in range(rows) if row % 5))
    ended(start_scan(*words, "--max-error-rate", 1))
    restore(folder, *range(0, rows, 5))
    random = np.random.default_rng(4)
    for kill in range(kills):
        before, wanted = versions(out), kill % 4
        process = start_scan(*words, "--threads", 1, "--retry-errors")
        # Every fourth one is killed while it starts.
        await_versions(process, out, before, wanted)
        time.sleep(random.uniform(0, 0.05 if wanted else 0.5))
        process.kill()
        process.communicate()
        kinds = {one.kind.value for one in verify_results(open_results(str(out)))}
        assert kinds <= {"unfinished", "leftover", "missing"}
        assert [row["row"] for row in result_rows(out)] == list(range(rows))
    assert any(row["error"] for row in result_rows(out)), "the scan was over before it was killed"
    ended(start_scan(*words, "--retry-errors"))
    whole = tmp_path / "whole"
    ended(start_scan(words[0], whole, *words[2:]))
    assert contents(out, "summary.json", ".lock") == contents(whole, "summary.json", ".lock")
    assert is_sound(out)


def versions(out: Path) -> set[tuple[str, int]]:
    """The result files as they are now."""
    return {(path.name, path.stat().st_mtime_ns) for path in result_files(out)}


def await_versions(
    process: subprocess.Popen[str], out: Path, before: set[tuple[str, int]], count: int
) -> None:
    """Wait until so many result files have new versions, or the scan has ended."""
    wait_until(
        lambda: len(versions(out) - before) >= count or process.poll() is not None,
        "no new versions",
        pause_s=0.002,
    )


def ended(process: subprocess.Popen[str]) -> None:
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
