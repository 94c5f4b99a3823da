"""The record of a scan: what makes another scan of it, and how that is worded."""

import json
from dataclasses import replace
from typing import Any

import pytest
from support.result_tables import FILES, SCAN

from aigid.results import InputTotals, ScanModel, ScanRecord
from aigid.results.json_records import format_record, record_of
from aigid.results.record import file_differences, record_differences, software_versions
from aigid.sources import Columns, ManifestFiles

SETTINGS = SCAN.settings
CHANGES: dict[str, tuple[ScanRecord, str]] = {
    "input": (replace(SCAN, input=InputTotals(1, 4)), "input.rows: 3 -> 4"),
    "model": (
        replace(SCAN, model=replace(SCAN.model, fingerprint="f2")),
        'model.fingerprint: "f1" -> "f2"',
    ),
    "setting": (
        replace(SCAN, settings=replace(SETTINGS, limit=5)),
        "settings.limit: null -> 5",
    ),
    "mode": (
        replace(SCAN, settings=replace(SETTINGS, mode="balanced")),
        'settings.mode: "best-guess" -> "balanced"',
    ),
    "columns": (
        replace(SCAN, settings=replace(SETTINGS, columns=Columns("img", None))),
        'settings.columns: {"image": "image", "prompt": null, "keep": [], "others": []} -> '
        '{"image": "img", "prompt": null, "keep": [], "others": []}',
    ),
    "format": (replace(SCAN, format=7), "format: 6 -> 7"),
    "shards": (replace(SCAN, shards=2), "shards: 1 -> 2"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_is_named_with_both_values(name: str) -> None:
    other, expected = CHANGES[name]
    assert list(record_differences(SCAN, other)) == [expected]


def test_every_difference_is_named() -> None:
    other = replace(
        SCAN,
        model=ScanModel("other", "f2", "int8", ("real", "flux")),
        settings=replace(SETTINGS, threshold=0.9),
        versions={"numpy": "3.0"},
    )
    assert list(record_differences(SCAN, other)) == [
        'model.fingerprint: "f1" -> "f2"',
        'model.labels: ["real", "sd21", "sdxl", "sd3", "dalle3", "midjourney"] -> ["real", "flux"]',
        'model.name: "tiny" -> "other"',
        "settings.threshold: 0.5 -> 0.9",
    ]


def test_a_long_value_is_cut_short() -> None:
    keep = tuple(f"column {number}" for number in range(10_000))
    other = replace(SCAN, settings=replace(SETTINGS, columns=Columns("image", None, keep)))
    (difference,) = record_differences(SCAN, other)
    assert difference.endswith("...")
    assert len(difference) < 300


@pytest.mark.parametrize(
    "changes", [{"versions": {"aigid": "9.9.9"}}, {"manifests": ("*.parquet",)}]
)
def test_software_versions_and_other_names_of_the_manifest_do_not_matter(
    changes: dict[str, Any],
) -> None:
    assert list(record_differences(SCAN, replace(SCAN, **changes))) == []


def test_a_record_is_read_as_it_was_written() -> None:
    columns = Columns("image", "prompt", ("id", "label"), (("url", None), ("Image", "text")))
    record = replace(
        SCAN, settings=replace(SETTINGS, columns=columns, limit=5, image_root="s3://x")
    )
    assert record_of(ScanRecord, json.loads(format_record(record))) == record


OTHER_FILES: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "another name": (["x.parquet"], {}, 'input: file 1: "m.parquet" -> "x.parquet"'),
    "one more": (["m.parquet", "n.parquet"], {}, "input: file 2: none -> n.parquet"),
    "another size": (["m.parquet"], {"size_bytes": 11}, ""),
    "other row groups": (["m.parquet"], {"row_groups": (4, 5)}, ""),
    "another footer": (["m.parquet"], {"digest": "cd" * 32}, ""),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_the_first_file_that_differs_is_named(name: str) -> None:
    names, changes, expected = OTHER_FILES[name]
    files = ManifestFiles(replace(FILES[0], path=path, **changes) for path in names)
    same_name = "input: m.parquet: another size, other rows or another content"
    assert list(file_differences(FILES, files)) == [expected or same_name]


def test_files_that_were_touched_are_the_same() -> None:
    touched = ManifestFiles([replace(FILES[0], modified_ns=6)])
    assert list(file_differences(FILES, touched)) == []


def test_the_versions_are_those_of_what_computes_results() -> None:
    versions = software_versions()
    assert {"aigid", "python", "numpy", "onnxruntime", "pillow", "pyarrow"} < versions.keys()
    assert all(version[0].isdigit() for version in versions.values())
