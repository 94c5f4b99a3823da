"""`aigid report` on the command line: what it prints, its statuses, and its flags in errors."""

import json
from pathlib import Path

import pytest
from support.command_line import invoke, run_without
from support.report_results import Made, ResultRow, report_results

from aigid.extras import install_command

ROWS = [ResultRow(score, kept={"label": label}) for score, label in ((0.9, 1), (0.8, 0), (0.1, 0))]


def test_the_page_and_its_figures_are_one_line(tmp_path: Path) -> None:
    results = report_results(tmp_path, ROWS)
    found = invoke("report", results, "--label-column", "label", "--by", "label")
    page = results / "report.html"
    assert found.stdout == f"{page}: 3 rows, 2 AI-generated, 0 errors; 2 of 3 right by label\n"
    assert found.exit_code == 0 and page.stat().st_size > 1_000_000


def test_figures_as_json(tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    words = ("--json", "--out", page, "--no-images")
    found = invoke("report", report_results(tmp_path, ROWS), *words)
    values = json.loads(found.stdout)
    assert values["page"] == str(page) and values["size_bytes"] == page.stat().st_size
    assert (values["rows"], values["ai"], values["right"]) == (3, 2, None)
    assert "<img" not in page.read_text(encoding="utf-8")


def test_an_unfinished_scan_is_told(tmp_path: Path) -> None:
    rows = ROWS * 4
    made = Made(shard_rows=3, row_group_rows=3, finished=False)
    found = invoke("report", report_results(tmp_path, rows, made))
    assert found.stdout.endswith("3 rows, 2 AI-generated, 0 errors; the scan has not finished\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--by", "x"), "--by x: not a column that the scan kept (these are: label)"),
        (("--label-column", "x"), "--label-column x: not a column that the scan kept"),
    ],
)
def test_errors_name_the_flags(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    found = invoke("report", report_results(tmp_path, ROWS), *words)
    assert (found.exit_code, found.stdout) == (2, "")
    assert message in found.stderr


def test_a_folder_without_results_and_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    found = invoke("report", tmp_path)
    assert found.exit_code == 2 and f"DIR {tmp_path}: no results of a scan there" in found.stderr
    found = invoke("report", report_results(tmp_path, ROWS), "--out", tmp_path / "gone" / "x.html")
    assert found.exit_code == 1 and "--out " in found.stderr and "cannot be written" in found.stderr


@pytest.mark.parametrize("package", ["jinja2", "plotly"])
def test_a_base_install_names_the_extra(tmp_path: Path, package: str) -> None:
    done = run_without((package,), "report", report_results(tmp_path, ROWS))
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"aigid: a report needs {package}: {install_command('report')}\n"
