"""`aigid relabel` after real scans: the scan goes on there, on disks and in object stores."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import invoke
from support.object_store import CREDENTIALS, object_store
from support.scan_results import result_files, result_rows, summary_of

from aigid.results import open_results, verify_results

SETTINGS = ("--threshold", 0.7, "--mode", "balanced")


@pytest.fixture
def manifest(write_manifest: Callable[..., Path]) -> Path:
    return write_manifest(24, row_group_size=6)


def scan(model: Path, manifest: Path, out: object, *options: object) -> None:
    words = ("--model", model, "--shard-rows", 6, "--keep", "id", *options)
    result = invoke("scan", manifest, "--out", out, *words)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("in_place", [True, False])
def test_the_relabelled_results_are_those_of_such_a_scan_and_it_goes_on_there(
    in_place: bool, tiny_repository: Path, manifest: Path, tmp_path: Path
) -> None:
    scan(tiny_repository, manifest, tmp_path / "before")
    scan(tiny_repository, manifest, tmp_path / "expected", *SETTINGS)
    out = tmp_path / ("before" if in_place else "new")
    where = ("--in-place",) if in_place else ("--out", out)
    result = invoke("relabel", tmp_path / "before", *where, *SETTINGS, "--model", tiny_repository)
    assert result.exit_code == 0, result.output
    assert "verdicts (balanced): ai " in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"{out}: 24 rows, ")
    expected = [path.read_bytes() for path in result_files(tmp_path / "expected")]
    assert [path.read_bytes() for path in result_files(out)] == expected
    assert list(verify_results(open_results(str(out)))) == []
    summaries = [summary_of(folder) | {"run": None} for folder in (out, tmp_path / "expected")]
    assert summaries[0] == summaries[1]
    result_files(out)[2].unlink()
    scan(tiny_repository, manifest, out, *SETTINGS)
    assert [path.read_bytes() for path in result_files(out)] == expected


def test_a_scan_says_that_a_relabel_is_under_way(
    tiny_repository: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    scan(tiny_repository, manifest, out)
    record = (out / "scan.json").read_text()
    summary = (out / "summary.json").read_text()
    after = record.replace('"threshold": 0.5', '"threshold": 0.7')
    (out / "relabel.json").write_text(
        f'{{"before": {record}, "after": {after}, "summary": {summary}}}'
    )
    for words in (
        ("scan", manifest, "--out", out, "--model", tiny_repository, "--shard-rows", 6),
        ("verify", out),
        ("relabel", out, "--in-place", "--threshold", 0.9),
    ):
        refused = invoke(*words)
        assert refused.exit_code in (1, 2)
        assert "a relabel to threshold 0.7 and mode best-guess is under way" in refused.output
        assert "run the same `aigid relabel` again" in refused.output
    assert len(result_rows(out)) == 24


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", 0.5), "give one of --out and --in-place"),
        (("--in-place", "--out", "new", "--threshold", 0.5), "give one of --out and --in-place"),
        (("--in-place",), "give --threshold, --max-fpr, --mode or --model"),
        (("--in-place", "--threshold", 0.5), "DIR {out}: no results of a scan there"),
    ],
)
def test_wrong_usage_names_the_options(
    words: tuple[object, ...], said: str, tmp_path: Path
) -> None:
    refused = invoke("relabel", tmp_path / "out", *words)
    assert refused.exit_code == 2
    assert said.format(out=tmp_path / "out") in refused.stderr


@pytest.mark.integration
def test_results_in_an_object_store_are_relabelled(
    tiny_repository: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with object_store() as store:
        out, new = store.uri("results"), store.uri("new")
        scan(tiny_repository, manifest, out)
        model = ("--model", tiny_repository)
        assert invoke("relabel", out, "--out", new, *SETTINGS, *model).exit_code == 0
        assert invoke("relabel", out, "--in-place", *SETTINGS, *model).exit_code == 0
        for folder in (out, new):
            assert list(verify_results(open_results(folder))) == []
            scan(tiny_repository, manifest, folder, *SETTINGS)
