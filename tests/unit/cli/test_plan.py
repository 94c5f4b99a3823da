"""`aigid plan`: its text, its JSON and its exit statuses."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import command_of, invoke
from support.manifests import manifest_table

from aigid.planning import DEFAULT_SAMPLE_ROWS


def test_a_plan_for_a_person(
    tiny_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        pq.write_table(manifest_table(30), tmp_path / "m.parquet")
        result = invoke("plan", tmp_path, "--model", tiny_repository, "--price-per-hour", "2.5")
        assert result.exit_code == 0, result.output
        text = " ".join(result.stdout.split())
        for words in (
            "parquet: 1 file, 30 rows",
            "30 rows in 1 shard",
            "images column Image prompts column Caption not read id, Label_A, Label_B",
            "model tiny, int8: tiny random model",
            "sample 30 rows, images: 30 in the manifest",
            "ms of CPU time a row",
            "on this host",
            "cost: 0.00",
            "calculated peak memory:",
        ):
            assert words in text
        assert max(map(len, result.stdout.splitlines())) <= width
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]


def test_a_plan_as_json(tiny_repository: Path, tmp_path: Path) -> None:
    pq.write_table(manifest_table(30), tmp_path / "m.parquet")
    result = invoke("plan", tmp_path, "--model", tiny_repository, "--json", "--sample", "8")
    plan = json.loads(result.stdout)
    assert (plan["rows"], plan["shards"], plan["sample"]["rows"]) == (30, 1, 8)
    assert plan["estimate"]["cost"] is None


def test_errors_of_the_sample_have_an_example_and_a_remedy(
    tiny_repository: Path, tmp_path: Path
) -> None:
    paths = ["gone.png", "\x1b[31mred.png", None]
    pq.write_table(pa.table({"image": pa.array(paths, pa.string())}), tmp_path / "m.parquet")
    result = invoke("plan", tmp_path / "m.parquet", "--model", tiny_repository)
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "3 of 3 rows fail (100.0%)" in text
    assert "- missing 2 rows, the first: row 0 of" in text
    assert "with --image-root" in text
    assert "no image of the sample could be scored" in text
    assert "\x1b" not in result.stdout


def test_a_plan_of_what_cannot_be_scanned_has_the_scan_s_status(
    tiny_repository: Path, tmp_path: Path
) -> None:
    result = invoke("plan", tmp_path / "gone", "--model", tiny_repository)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no such file or folder" in result.stderr
    pq.write_table(manifest_table(2), tmp_path / "m.parquet")
    result = invoke("plan", tmp_path, "--model", tiny_repository, "--image-column", "nope")
    assert result.exit_code == 2
    assert "no column named nope" in result.stderr
    result = invoke("plan", tmp_path, "--model", tmp_path / "no-model")
    assert result.exit_code == 2
    assert f"--model {tmp_path / 'no-model'}: no such folder" in result.stderr


def test_a_damaged_manifest_is_told_after_the_plan_with_status_1(
    tiny_repository: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(manifest_table(40), path)
    data = bytearray(path.read_bytes())
    data[100 : len(data) // 2] = bytes(len(data) // 2 - 100)
    path.write_bytes(data)
    result = invoke("plan", path, "--model", tiny_repository)
    assert result.exit_code == 1
    assert "40 rows in 1 shard" in result.stdout
    assert "the scan would stop" in result.stderr


@pytest.mark.parametrize("words", [("--sample", "0"), ("--price-per-hour", "-1"), ("--out", "x")])
def test_values_that_make_no_sense_are_usage_errors(words: tuple[str, ...]) -> None:
    assert invoke("plan", "m.parquet", *words).exit_code == 2


def test_the_options_of_a_plan_are_those_of_a_scan_and_its_default_the_library_s() -> None:
    options = {option.name: option for option in command_of("plan").params}
    assert options["sample"].default == DEFAULT_SAMPLE_ROWS
    scan = {option.name for option in command_of("scan").params}
    own = options.keys() - scan
    assert own == {"sample", "price_per_hour"}
    missing = {name for name in scan - options.keys() if name}
    assert {"out", "ray", "max_error_rate"} <= missing
    assert {"image_column", "keep", "limit", "threads", "triton", "header"} <= options.keys()
