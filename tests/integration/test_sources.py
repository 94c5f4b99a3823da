"""Scans of what is no Parquet manifest: the same answers, plan, resuming and results."""

import signal
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.manifests import encoded_image
from support.scan_process import await_commits, start_scan
from support.scan_results import result_files, result_rows, summary_of
from support.source_forms import FORMS, add_member, write_form

from aigid.cli.main import main

ROWS = 40
Scan = Callable[..., Result]
# What is the same whatever the form is.
ANSWERS = ("p_ai", "is_ai", "source", "p_source", "known_score", "error")


@pytest.fixture
def scan(tiny_repository: Path, tmp_path: Path) -> Scan:
    """Runs `aigid scan` in this process with the tiny model, into `results`."""

    def run(*arguments: object, out: str = "results") -> Result:
        words = ["scan", "--model", tiny_repository, "--out", tmp_path / out, *arguments]
        return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)

    return run


def answers(out: Path) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ANSWERS} for row in result_rows(out)]


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in result_files(out)}


@pytest.mark.parametrize("form", FORMS[:-1])
def test_every_form_of_a_manifest_has_the_same_answers(
    scan: Scan, tmp_path: Path, form: str
) -> None:
    source = write_form(form, tmp_path, ROWS)
    result = scan(source, "--shard-rows", 15)
    assert result.exit_code == 0, result.output
    assert scan(write_form("parquet", tmp_path, ROWS), out="expected").exit_code == 0
    assert answers(tmp_path / "results") == answers(tmp_path / "expected")
    rows = result_rows(tmp_path / "results")
    assert len({(row["manifest"], row["row"]) for row in rows}) == ROWS
    assert [Path(row["image"]).name for row in rows] == [f"{row:05}.png" for row in range(ROWS)]
    manifest, image = Path(rows[0]["manifest"]), rows[0]["image"]
    assert manifest.is_file() or (manifest / image).is_file()
    assert summary_of(tmp_path / "results")["rows"] == ROWS


@pytest.mark.parametrize("form", [form for form in FORMS if form != "folder"])
def test_columns_of_every_form_are_kept(scan: Scan, tmp_path: Path, form: str) -> None:
    result = scan(write_form(form, tmp_path, ROWS), "--keep", "id", "--shard-rows", 15)
    assert result.exit_code == 0, result.output
    ids = [row["id"] for row in result_rows(tmp_path / "results")]
    assert [*map(int, ids)] == list(range(ROWS))


@pytest.mark.parametrize("form", FORMS)
def test_a_limit_scans_the_first_rows_of_every_form(scan: Scan, tmp_path: Path, form: str) -> None:
    source = write_form(form, tmp_path, ROWS)
    result = scan(source, "--limit", 23, "--shard-rows", 6)
    assert result.exit_code == 0, result.output
    assert scan(source, out="whole").exit_code == 0
    assert answers(tmp_path / "results") == answers(tmp_path / "whole")[:23]
    assert scan(source, "--limit", 23, "--shard-rows", 6).exit_code == 0


@pytest.mark.parametrize("form", ["folder with metadata", "csv", "json lines", "tars"])
def test_a_killed_scan_of_any_form_goes_on(
    tiny_repository: Path, tmp_path: Path, form: str
) -> None:
    source = write_form(form, tmp_path, 300)
    options = ["--model", tiny_repository, "--shard-rows", 20, "--keep", "id"]
    process = start_scan(source, tmp_path / "killed", *options)
    assert await_commits(process, tmp_path / "killed", 2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    before = len(result_files(tmp_path / "killed"))
    assert 2 <= before < 15
    for out in ("killed", "whole"):
        process = start_scan(source, tmp_path / out, *options)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        if out == "killed":
            assert "done before" in stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert summary_of(tmp_path / "killed")["rows"] == 300


def test_totals_are_at_least_what_is_known_until_tars_are_read(scan: Scan, tmp_path: Path) -> None:
    source = write_form("tars", tmp_path, ROWS)
    result = scan(source, "--progress-json")
    assert '"rows_total": 0, "at_least": true, "rows": 0' in result.stderr
    assert f'"rows_total": {ROWS}, "at_least": true, "rows": {ROWS}' in result.stderr
    assert '"rows": null' in (tmp_path / "results" / "scan.json").read_text()


@pytest.mark.parametrize("form", ["folder", "csv", "json lines", "tars"])
def test_another_content_is_another_scan(scan: Scan, tmp_path: Path, form: str) -> None:
    source = write_form(form, tmp_path, ROWS)
    assert scan(source).exit_code == 0
    if form == "folder":
        (source / "zzz.png").write_bytes(encoded_image(1))
    elif form == "tars":
        tar = source / "00000.tar"
        tar.write_bytes(tar.read_bytes().replace(b"number 1", b"number 7", 1))
    else:
        source.write_text(source.read_text().replace("number 1", "number 7", 1))
    result = scan(source)
    assert result.exit_code == 2
    assert "holds a scan of another input" in result.output


def test_a_link_in_a_tar_is_no_file_beside_it(scan: Scan, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        add_member(tar, "0.png", encoded_image(0))
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "0.png"
        tar.addfile(link)
    (tmp_path / "1.png").write_bytes(encoded_image(1))
    assert scan(tmp_path / "m.tar").exit_code == 3
    rows = result_rows(tmp_path / "results")
    assert [(row["image"], row["error"]) for row in rows] == [("0.png", None), ("1.png", "empty")]


def test_single_images_and_globs_of_them_are_scanned(scan: Scan, tmp_path: Path) -> None:
    folder = write_form("folder", tmp_path, 5)
    assert scan(folder, out="whole").exit_code == 0
    assert scan(folder / "*.png", out="glob").exit_code == 0
    assert answers(tmp_path / "glob") == answers(tmp_path / "whole")
    images = [folder / f"0000{number}.png" for number in (3, 1)]
    assert scan(*images, out="two").exit_code == 0
    whole = answers(tmp_path / "whole")
    assert answers(tmp_path / "two") == [whole[3], whole[1]]
    rows = result_rows(tmp_path / "two")
    assert [(row["manifest"], row["row"], row["image"]) for row in rows] == [
        (str(folder), 0, "00003.png"),
        (str(folder), 1, "00001.png"),
    ]


def test_what_a_folder_holds_besides_is_said(scan: Scan, tmp_path: Path) -> None:
    folder = write_form("folder", tmp_path, 3)
    (folder / "labels.csv").write_text("image\n00000.png\n")
    (folder / "clip.mov").write_bytes(b"x")
    result = scan(folder)
    assert result.exit_code == 0
    assert "its images are scanned, and what else lies there is not: 1 csv, 1 .mov" in result.stderr
