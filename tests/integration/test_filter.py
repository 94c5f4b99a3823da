"""`aigid filter` after real scans: what it writes is scanned with the same answers."""

import json
from pathlib import Path

import pytest
from support.command_line import invoke
from support.evidence_files import A1111, png_with_text
from support.object_store import CREDENTIALS, object_store
from support.scan_results import result_rows
from support.source_forms import FORMS, write_form

ROWS = 25
OUTPUTS = {"tars": "keep", "csv": "keep.csv", "tsv": "keep.tsv", "json lines": "keep.jsonl"}


def scan(model: Path, source: object, out: object, *options: object) -> None:
    words = ("--model", model, "--shard-rows", 8, *options)
    result = invoke("scan", source, "--out", out, *words)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_to_keep_have_the_same_answers_in_a_scan_of_their_own(
    form: str, tiny_repository: Path, tmp_path: Path
) -> None:
    source, out = write_form(form, tmp_path, ROWS), tmp_path / OUTPUTS.get(form, "keep.parquet")
    scan(tiny_repository, source, tmp_path / "results")
    result = invoke("filter", tmp_path / "results", "--verdict", "real", "--out", out)
    assert result.exit_code == 0, result.output
    before = [row for row in result_rows(tmp_path / "results") if row["verdict"] == "real"]
    assert 0 < len(before) < ROWS
    assert result.stdout == (
        f"{out}: {len(before)} of {ROWS} rows, 0 of them with an error; "
        f"left out: {ROWS - len(before)} rows, 0 of them with an error\n"
    )
    # Names stay as they are written: relative to the folder of the first manifest.
    folder = source if source.is_dir() else source.parent
    root = () if form in ("tars", "parquet") else ("--image-root", folder)
    scan(tiny_repository, out, tmp_path / "again", *root)
    names = ("image", "p_ai", "p_source", "known_score", "verdict", "error")
    assert [[row[name] for name in names] for row in result_rows(tmp_path / "again")] == [
        [row[name] for name in names] for row in before
    ]


def test_evidence_is_a_condition_of_a_scan_that_read_it(
    tiny_repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for row in range(6):
        text = {"parameters": A1111} if row % 2 else {}
        (folder / f"{row}.png").write_bytes(png_with_text(**text))
    (folder / "9.png").write_bytes(b"no image")
    scan(tiny_repository, folder, tmp_path / "results", "--evidence", "--max-error-rate", 1)
    words = ("filter", tmp_path / "results", "--json", "--evidence")
    result = invoke(*words, "ai", "--out", tmp_path / "ai.csv")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "rows": 7,
        "written": 3,
        "failed": 1,
        "failed_written": 0,
    }
    assert (tmp_path / "ai.csv").read_text().split() == ["file_name", "1.png", "3.png", "5.png"]
    again = invoke(*words, "none", "--error", "undecodable", "--out", tmp_path / "none.csv")
    assert json.loads(again.stdout)["written"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "keep.csv"), "give a condition: --verdict, --evidence, --source"),
        (("--verdict", "ai", "--out", "keep.csv"), "DIR {results}: no results of a scan there"),
        (("--verdict", "maybe", "--out", "keep.csv"), "'maybe' is not one of"),
        (("--verdict", "ai"), "Missing option '-o' / '--out'"),
    ],
)
def test_wrong_usage_names_the_options(
    words: tuple[object, ...], said: str, tmp_path: Path
) -> None:
    refused = invoke("filter", tmp_path / "results", *words)
    assert refused.exit_code == 2
    assert said.format(results=tmp_path / "results") in refused.stderr


@pytest.mark.integration
@pytest.mark.parametrize("name", ["keep.parquet", "keep"])
def test_manifests_results_and_rows_may_be_in_an_object_store(
    name: str, tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in CREDENTIALS.items():
        monkeypatch.setenv(variable, value)
    source = write_form("parquet", tmp_path, ROWS) / "m.parquet"
    with object_store() as store:
        store.put("photos/m.parquet", source.read_bytes())
        scan(tiny_repository, store.uri("photos/"), store.uri("results"))
        out = store.uri(name)
        words = ("filter", store.uri("results"), "--verdict", "real", "--out", out)
        assert invoke(*words).exit_code == 0
        scan(tiny_repository, out, tmp_path / "again")
        assert {row["verdict"] for row in result_rows(tmp_path / "again")} == {"real"}
        refused = invoke(*words)
        assert refused.exit_code == 2
        assert "already there: give another name" in refused.stderr
