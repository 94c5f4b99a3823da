"""`aigid.scan`: forms of its arguments, its summary, its progress, the model's notice."""

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
import pytest
from support.manifests import encoded_image, manifest_table
from support.scan_results import result_rows

import aigid
import aigid.api
from aigid import ModelNoticeWarning, ResumeMismatchError, ScanConfig, UsageError
from aigid.api import ScanOptions
from aigid.progress import OnMessage, ScanProgress
from aigid.run_scan import ScanOutcome

Write = Callable[..., Path]


def test_the_keyword_arguments_are_the_fields_of_scan_config_with_its_types() -> None:
    fields = get_type_hints(ScanConfig)
    options = get_type_hints(ScanOptions)
    # `source` and `out` have parameters of their own; the summary has the error rate.
    assert options.keys() == fields.keys() - {"paths", "out", "max_error_rate"}
    # These also take what users have at hand, and `scan` converts them.
    wider = {
        "keep": Sequence[str],
        "image_root": Path | str | None,
        "headers": Sequence[tuple[str, str, str]],
        "readers": Sequence[str],
        "retry_errors": bool | str | Sequence[str],
    }
    assert options == {name: wider.get(name, fields[name]) for name in options}


def test_a_scan_returns_the_summary_and_writes_the_results(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    summary = aigid.scan(write_manifest(30), out=out, model=tiny_repository, progress=False)
    assert summary.to_json() == json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert (summary.rows, summary.scored, summary.error_rate) == (30, 30, 0)
    assert summary.model.name == "tiny"
    assert len(result_rows(out)) == 30


def test_every_form_of_the_arguments_gives_the_same_results(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    path, number = write_manifest(20), 0

    def rows(source: Any, **options: Any) -> list[dict[str, Any]]:
        nonlocal number
        number += 1
        out = tmp_path / f"results-{number}"
        aigid.scan(source, out=options.pop("out", out), progress=False, **options)
        return result_rows(out)

    options = {"model": tiny_repository, "keep": ("Caption",), "threshold": 0.7}
    expected = rows(path, **options)
    assert "Caption" in expected[0]
    assert rows(str(path), **options) == expected
    assert rows([path], **options) == expected
    assert rows(iter([str(path)]), **options) == expected
    assert rows(path, out=str(tmp_path / "results-5"), **options) == expected
    assert rows(path, **options | {"keep": ["Caption"], "model": str(tiny_repository)}) == expected
    config = ScanConfig((str(path),), str(tmp_path / "results-7"), **options)
    assert aigid.scan(config, progress=False).rows == 20
    assert result_rows(tmp_path / "results-7") == expected


def test_paths_in_a_manifest_are_relative_to_an_image_root_of_either_type(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "one.png").write_bytes(encoded_image(1))
    path = write_manifest(pa.table({"path": ["one.png"]}))
    for number, root in enumerate((tmp_path / "images", str(tmp_path / "images"))):
        summary = aigid.scan(
            path, out=tmp_path / f"results-{number}", model=tiny_repository, image_root=root
        )
        assert summary.scored == 1


def test_the_same_call_again_scans_nothing(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    path, out = write_manifest(20), tmp_path / "results"
    first = aigid.scan(path, out=out, model=tiny_repository, progress=False)
    assert aigid.scan(path, out=out, model=tiny_repository, progress=False) == first
    with pytest.raises(ResumeMismatchError, match="threshold"):
        aigid.scan(path, out=out, model=tiny_repository, progress=False, threshold=0.9)


def test_rows_with_an_error_are_counted_and_do_not_raise(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    table = manifest_table(4)
    column = table.schema.get_field_index("Image")
    images = [{"bytes": b"damaged", "path": None}] * 4
    table = table.set_column(column, "Image", [images])
    summary = aigid.scan(
        write_manifest(table), out=tmp_path / "results", model=tiny_repository, progress=False
    )
    assert (summary.error_rate, summary.errors) == (1, {"undecodable": 4})
    assert summary.error_examples["undecodable"].row == 0


def test_progress_is_shown_on_stderr_or_not_at_all(
    tiny_repository: Path,
    write_manifest: Write,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write_manifest(20)
    aigid.scan(path, out=tmp_path / "shown", model=tiny_repository)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("scan: 20 rows")
    # The notice is a warning, so it is no message as well.
    assert "tiny random model" not in shown.err
    aigid.scan(path, out=tmp_path / "silent", model=tiny_repository, progress=False)
    assert capfd.readouterr() == ("", "")


def test_the_notice_is_a_warning_once_a_process_at_the_caller_s_line(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigid.detector._warned_notices", set())
    path = write_manifest(5)
    with pytest.warns(ModelNoticeWarning, match="^tiny random model$") as caught:
        aigid.scan(path, out=tmp_path / "one", model=tiny_repository, progress=False)
        aigid.scan(path, out=tmp_path / "two", model=tiny_repository, progress=False)
        aigid.Detector.load(tiny_repository)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("progress", [True, False])
def test_messages_are_shown_with_the_progress_or_logged(
    progress: bool,
    tiny_repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def scan(config: ScanConfig, shown: ScanProgress, on_message: OnMessage) -> ScanOutcome:
        shown.start(10, 0)
        on_message("tiny random model")
        on_message("gpu1:8001 does not answer")
        raise aigid.ServerError("no server answers")

    monkeypatch.setattr("aigid.api.run_scan", scan)
    caplog.set_level(logging.WARNING, "aigid")
    with pytest.raises(aigid.ServerError):
        aigid.scan("m.parquet", out=tmp_path, model=tiny_repository, progress=progress)
    # Without progress, stderr may have what the log's handlers print.
    shown = capfd.readouterr().err
    assert shown == "scan: 10 rows\ngpu1:8001 does not answer\n" or not progress
    assert ("scan: 10 rows" in shown) is progress
    messages = [] if progress else ["gpu1:8001 does not answer"]
    assert [record.message for record in caplog.records] == messages
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def no_paths() -> Iterator[str]:
    yield from ()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (5, {}, "`source` must be a path, a URI or a list of them: got 5"),
        (None, {}, "`source` must be a path, a URI or a list of them: got None"),
        (b"m.parquet", {}, "`source` must be a path, a URI or a list of them: got b'm.parquet'"),
        ({"m.parquet"}, {}, "`source` must be a path, a URI or a list of them: got {'m.parquet'}"),
        (["m.parquet", 5], {}, "`source` must be a path or URI: got 5"),
        ([], {}, "`source` is empty: give a manifest"),
        (no_paths(), {}, "`source` is empty: give a manifest"),
        (Path("s3://bucket/m"), {}, "`source` s3:/bucket/m: a Path cannot hold a URI: give it as"),
        ("m.parquet", {"out": None}, "`out` must be a path or URI: got None"),
        ("m.parquet", {"out": 5}, "`out` must be a path or URI: got 5"),
        ("m.parquet", {"out": Path("gs://b/r")}, "`out` gs:/b/r: a Path cannot hold a URI"),
        ("m.parquet", {"image_root": 5}, "`image_root` must be a path or URI: got 5"),
        ("m.parquet", {"model": 5}, "`model` "),
        ("m.parquet", {"keep": "id"}, "`keep` "),
        ("m.parquet", {"image_column": 5}, "`image_column` "),
        ("m.parquet", {"threshold": 2}, "`threshold` "),
        ("m.parquet", {"threshold": "x"}, "`threshold` "),
        ("m.parquet", {"threshold": (number for number in [0.5])}, "`threshold` "),
        ("m.parquet", {"threshold": 0.5, "max_fpr": 0.1}, "give one of `threshold` and `max_fpr`"),
        ("m.parquet", {"limit": 0}, "`limit` "),
        ("m.parquet", {"threads": 1.5}, "`threads` "),
        ("m.parquet", {"batch_rows": "32"}, "`batch_rows` "),
        ("m.parquet", {"shard_rows": True}, "`shard_rows` "),
        (ScanConfig(("m",), "out"), {"out": "out"}, "a ScanConfig has all settings"),
        (ScanConfig(("m",), "out"), {"out": None, "limit": 5}, "a ScanConfig has all settings"),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name(
    source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        aigid.scan(source, **{"out": "results"} | options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_unknown_keyword_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="cutoff"):
        aigid.scan("m.parquet", out="results", cutoff=0.5)


def test_the_defaults_are_those_of_scan_config(
    monkeypatch: pytest.MonkeyPatch, tiny_repository: Path
) -> None:
    found: list[ScanConfig] = []

    class StopError(Exception):
        pass

    def scan(config: ScanConfig, shown: ScanProgress, on_message: OnMessage) -> ScanOutcome:
        found.append(config)
        raise StopError

    monkeypatch.setattr("aigid.api.run_scan", scan)
    with pytest.raises(StopError):
        aigid.scan("m.parquet", out="results", model=tiny_repository)
    expected = ScanConfig(("m.parquet",), "results", model=tiny_repository)
    assert dataclasses.asdict(found[0]) == dataclasses.asdict(expected)
