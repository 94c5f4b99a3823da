"""The summary of a scan: its JSON, and that only exactly this JSON is read."""

import json
from dataclasses import replace
from typing import Any

import pytest
from support.result_tables import SUMMARY

from aigid.results import RunFigures, ScanSummary


def test_the_json_has_the_documented_keys_in_order() -> None:
    values = SUMMARY.to_json()
    assert list(values) == [
        *("format", "model", "threshold", "mode", "shards", "rows", "scored", "ai", "verdicts"),
        *("sources", "errors", "error_rate", "error_examples", "evidence", "run"),
    ]
    assert list(values["model"]) == ["name", "fingerprint", "notice"]
    assert list(values["run"]) == [
        *("rows", "seconds", "rows_per_s", "peak_memory_mib"),
        *("fetch_s", "evidence_s", "decode_s", "score_s", "duplicates"),
    ]
    assert values["error_examples"]["missing"] == {
        "manifest": "m.parquet",
        "row": 5,
        "image": "é.png",
        "detail": "é.png: no such file",
    }


@pytest.mark.parametrize(
    "summary",
    [
        SUMMARY,
        replace(SUMMARY, threshold=1, error_rate=0, errors={}, error_examples={}),
        replace(SUMMARY, run=replace(SUMMARY.run, rows_per_s=None)),
    ],
)
def test_a_summary_is_read_as_it_was_written(summary: ScanSummary) -> None:
    assert ScanSummary.from_json(json.loads(json.dumps(summary.to_json()))) == summary


def with_value(*path: str, value: Any = None) -> dict[str, Any]:
    """The summary's JSON with another value somewhere, or without one."""
    values: dict[str, Any] = json.loads(json.dumps(SUMMARY.to_json()))
    *parents, key = path
    place = values
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (with_value("rows"), "missing: rows"),
        (with_value("model", "name"), r"missing: model\.name"),
        (with_value("error_examples", "empty", "row"), r"missing: error_examples\.empty\.row"),
        (with_value("more", value=1), "unknown: more"),
        (with_value("run", "more", value=1), r"unknown: run\.more"),
        (with_value("rows", value="6"), 'rows must be int: got "6"'),
        (with_value("rows", value=6.5), r"rows must be int: got 6\.5"),
        (with_value("shards", value=True), "shards must be int: got true"),
        (with_value("threshold", value="0.5"), r"threshold must be float: got \"0\.5\""),
        (with_value("run", "rows_per_s", value="4"), r"run\.rows_per_s must be float: got \"4\""),
        (with_value("model", value="tiny"), "model is not a JSON object"),
        (with_value("sources", value=[1]), r"sources must be dict: got \[1\]"),
        (with_value("sources", "real", value="3"), r"sources\.real must be int: got \"3\""),
        ([], "it is not a JSON object"),
        (None, "it is not a JSON object"),
    ],
)
def test_anything_else_is_refused_with_its_place(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        ScanSummary.from_json(values)


def test_the_figures_of_a_run_are_rounded_for_people() -> None:
    figures = RunFigures.of(rows=1000, seconds=3.00049)
    assert (figures.rows, figures.seconds, figures.rows_per_s) == (1000, 3.0, 333.28)
    assert 10 < figures.peak_memory_mib < 100_000
    assert figures.peak_memory_mib == round(figures.peak_memory_mib, 1)


def test_a_run_without_rows_has_no_speed() -> None:
    assert RunFigures.of(rows=0, seconds=0.0).rows_per_s is None
