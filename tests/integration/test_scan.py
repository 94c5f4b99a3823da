"""The scan through its command line: good input, every bad input, resuming."""

import base64
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from support.manifests import HF_IMAGE, encoded_image, manifest_table
from support.scan_process import await_commits, start_scan
from support.scan_results import result_files, result_rows, summary_of

from aigid.cli.main import main
from aigid.results import FindingKind, open_results, verify_results

Write = Callable[..., Path]
Scan = Callable[..., Result]


@pytest.fixture
def scan(tiny_repository: Path, tmp_path: Path) -> Scan:
    """Runs `aigid scan` in this process with the tiny model, into `results`."""

    def run(*arguments: object, out: Path | None = None) -> Result:
        words = [
            "scan",
            "--model",
            tiny_repository,
            "--out",
            out or tmp_path / "results",
            *arguments,
        ]
        return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)

    return run


def rows_of_images(images: list[dict[str, object] | None]) -> pa.Table:
    return pa.table(
        {"image": pa.array(images, HF_IMAGE), "prompt": pa.array(["a cat"] * len(images))}
    )


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their paths there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_manifest_row_is_in_the_results_once_in_order(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(50, row_group_size=7)
    result = scan(manifest, "--shard-rows", 20, "--keep", "id", "--keep", "Label_B")
    assert result.exit_code == 0, result.output
    rows = result_rows(tmp_path / "results")
    assert [row["row"] for row in rows] == list(range(50)) == [row["id"] for row in rows]
    assert {row["manifest"] for row in rows} == {str(manifest)}
    for row in rows:
        assert row["error"] is None
        assert 0 <= row["p_ai"] <= 1
        assert row["p_source"][0] == pytest.approx(1 - row["p_ai"], abs=1e-6)
        assert sum(row["p_source"]) == pytest.approx(1, abs=1e-5)
        assert row["is_ai"] == (row["p_ai"] >= 0.5)
        assert (row["source"] == "real") == (not row["is_ai"])
    summary = summary_of(tmp_path / "results")
    assert summary["rows"] == summary["scored"] == 50
    assert summary["ai"] == sum(row["is_ai"] for row in rows)
    assert result.stdout.strip().splitlines()[-1].startswith(str(tmp_path / "results"))
    assert "tiny random model" in result.stderr


def test_json_prints_the_summary(scan: Scan, write_manifest: Write, tmp_path: Path) -> None:
    result = scan(write_manifest(5), "--json")
    assert json.loads(result.stdout) == summary_of(tmp_path / "results")


def test_the_results_depend_on_neither_threads_nor_batch_size(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(60)
    found = []
    for name, options in {
        "a": ("--threads", 1),
        "b": ("--threads", 4),
        "c": ("--threads", 3, "--batch-size", 7),
    }.items():
        assert scan(manifest, *options, "--shard-rows", 25, out=tmp_path / name).exit_code == 0
        found.append([path.read_bytes() for path in result_files(tmp_path / name)])
    assert found[0] == found[1] == found[2]


def test_folders_globs_and_several_files_are_one_manifest(scan: Scan, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    (folder / "below").mkdir(parents=True)
    for name, rows in {
        "b.parquet": 3,
        "a.parquet": 2,
        "below/c.parquet": 4,
        "_left_out.parquet": 9,
    }.items():
        pq.write_table(manifest_table(rows), folder / name)
    assert scan(folder, out=tmp_path / "r1").exit_code == 0
    rows = result_rows(tmp_path / "r1")
    assert [Path(str(row["manifest"])).name for row in rows] == ["a.parquet"] * 2 + [
        "b.parquet"
    ] * 3 + ["c.parquet"] * 4
    assert scan(folder / "*.parquet", out=tmp_path / "r2").exit_code == 0
    assert len(result_rows(tmp_path / "r2")) == 5 + 9
    assert scan(folder / "a.parquet", folder / "b.parquet", out=tmp_path / "r3").exit_code == 0
    assert len(result_rows(tmp_path / "r3")) == 5


def test_threshold_max_fpr_and_limit(scan: Scan, write_manifest: Write, tmp_path: Path) -> None:
    manifest = write_manifest(30)
    assert scan(manifest, "--threshold", 0.8, "--limit", 12, out=tmp_path / "r1").exit_code == 0
    rows = result_rows(tmp_path / "r1")
    assert len(rows) == 12
    assert all(row["is_ai"] == (row["p_ai"] >= np.float32(0.8)) for row in rows)
    assert scan(manifest, "--max-fpr", 0.01, out=tmp_path / "r2").exit_code == 0
    assert summary_of(tmp_path / "r2")["threshold"] == 0.9
    refused = scan(manifest, "--max-fpr", 0.0001, out=tmp_path / "r3")
    assert refused.exit_code == 2
    assert "0.01" in refused.stderr


def test_the_mode_decides_the_verdict_and_the_threshold_all_else(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(30)
    plain, balanced = tmp_path / "r1", tmp_path / "r2"
    assert scan(manifest, "--threshold", 0.6, out=plain).exit_code == 0
    rows = result_rows(plain)
    assert [row["verdict"] == "ai" for row in rows] == [row["is_ai"] for row in rows]
    assert summary_of(plain)["mode"] == "best-guess"
    result = scan(manifest, "--threshold", 0.6, "--mode", "balanced", out=balanced)
    assert result.exit_code == 0
    assert "measured on 300 real and 300 AI-generated rows" in result.stderr
    for before, row in zip(rows, result_rows(balanced), strict=True):
        bounds = (row["p_ai"] >= np.float32(0.9), row["p_ai"] < np.float32(0.2))
        assert (row["verdict"] == "ai", row["verdict"] == "real") == bounds
        assert row | {"verdict": None} == before | {"verdict": None}
    summary = summary_of(balanced)
    found = [row["verdict"] for row in result_rows(balanced)]
    assert (summary["mode"], summary["verdicts"]) == (
        "balanced",
        {name: found.count(name) for name in ("ai", "real", "unsure")},
    )
    settings = json.loads((balanced / "scan.json").read_text())["settings"]
    assert (settings["mode"], settings["ai_from"], settings["real_below"]) == ("balanced", 0.9, 0.2)
    assert list(verify_results(open_results(str(balanced)))) == []
    other = scan(manifest, "--threshold", 0.6, out=balanced)
    assert other.exit_code == 2
    assert 'settings.mode: "balanced" -> "best-guess"' in other.stderr


@pytest.mark.parametrize("mode", ["high-precision", "best"])
def test_a_mode_that_the_model_lacks_is_refused_before_anything_is_written(
    scan: Scan, write_manifest: Write, tmp_path: Path, mode: str
) -> None:
    refused = scan(write_manifest(3), "--mode", mode)
    assert refused.exit_code == 2
    assert ("--mode high-precision: " in refused.stderr) == (mode == "high-precision")
    assert ("2,995 AI-generated rows" in refused.stderr) == (mode == "high-precision")
    assert not (tmp_path / "results" / "detections").exists()


def test_a_bad_row_gets_its_code_and_the_rest_goes_on(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    good, bomb = encoded_image(1), _png_header(50_000, 50_000)
    images = {
        None: {"bytes": good, "path": None},
        "empty": None,
        "undecodable": {"bytes": b"this is a text file", "path": "notes.jpg"},
        "too_large": {"bytes": bomb, "path": None},
    }
    more = [
        {"bytes": b"", "path": None},
        {"bytes": encoded_image(2, 64, "JPEG")[:-700], "path": None},
        {"bytes": None, "path": None},
    ]
    expected = [*images, "empty", "undecodable", "empty"]
    table = rows_of_images([*images.values(), *more])
    result = scan(write_manifest(table), "--max-error-rate", 1)
    assert result.exit_code == 0, result.output
    rows = result_rows(tmp_path / "results")
    assert [row["error"] for row in rows] == expected
    for row in rows[1:]:
        assert row["p_ai"] is row["is_ai"] is row["source"] is row["p_source"] is None
        assert row["error_detail"]
    assert summary_of(tmp_path / "results")["errors"] == {
        "empty": 3,
        "too_large": 1,
        "undecodable": 2,
    }


def test_paths_are_below_the_image_root_or_refused(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "images" / "folder.png").mkdir(parents=True)
    (tmp_path / "images" / "ok.png").write_bytes(encoded_image(3))
    (tmp_path / "outside.png").write_bytes(encoded_image(4))
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "outside.png")
    (tmp_path / "images" / "zero.png").write_bytes(b"")
    os.mkfifo(tmp_path / "images" / "pipe.png")
    cases = {
        "ok.png": None,
        str(tmp_path / "images" / "ok.png"): None,
        "../outside.png": "forbidden",
        str(tmp_path / "outside.png"): "forbidden",
        "link.png": "forbidden",
        "https://127.0.0.1/x.png": "forbidden",
        "no-such.png": "missing",
        "nul\0.png": "missing",
        "x" * 5000: "missing",
        "folder.png": "undecodable",
        "pipe.png": "undecodable",
        "zero.png": "empty",
        "": "empty",
    }
    manifest = write_manifest(pa.table({"image_path": list(cases), "text": ["x"] * len(cases)}))
    assert scan(manifest, "--image-root", tmp_path / "images", "--max-error-rate", 1).exit_code == 0
    assert {row["row"]: row["error"] for row in result_rows(tmp_path / "results")} == dict(
        enumerate(cases.values())
    )
    allowed = scan(
        manifest,
        "--image-root",
        tmp_path / "images",
        "--allow-outside-root",
        "--max-error-rate",
        1,
        out=tmp_path / "r2",
    )
    assert allowed.exit_code == 0
    assert [row["error"] for row in result_rows(tmp_path / "r2")][2:5] == [None, None, None]


def test_a_null_or_absent_prompt_is_the_empty_one(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    image = {"bytes": encoded_image(9), "path": None}
    table = pa.table(
        {"image": pa.array([image, image], HF_IMAGE), "prompt": pa.array([None, ""], pa.string())}
    )
    assert scan(write_manifest(table), out=tmp_path / "r1").exit_code == 0
    assert (
        scan(
            write_manifest(table.drop_columns("prompt"), "absent.parquet"), out=tmp_path / "r2"
        ).exit_code
        == 0
    )
    answers = [row["p_ai"] for row in result_rows(tmp_path / "r1") + result_rows(tmp_path / "r2")]
    assert len(answers) == 4
    assert len(set(answers)) == 1


def test_images_of_every_form_get_the_same_answers(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    data = [encoded_image(seed) for seed in range(3)]
    prompts = ["a cat", "a dog", None]
    texts = [base64.b64encode(image).decode() for image in data]
    (tmp_path / "0.png").write_bytes(data[0])
    forms: dict[str, pa.Array] = {
        "image": pa.array(data),
        "images": pa.array([[{"bytes": image, "path": None}] * 2 for image in data]),
        "png": pa.array([list(image) for image in data], pa.list_(pa.uint8())),
        "webp": pa.array(data).dictionary_encode(),
        "img": pa.array([texts[0], f"data:image/png;base64,{texts[1]}", texts[2].rstrip("=")]),
        "url": pa.array([{"url": f"data:;base64,{text}", "alt": "an image"} for text in texts]),
        "path": pa.array([["0.png", "no-such.png"], [texts[1]], [texts[2]]]),
    }
    answers = set()
    for name, column in forms.items():
        # A column of images that holds none is passed over.
        table = pa.table({name: column, "Image": pa.nulls(3), "caption": prompts})
        done = scan(write_manifest(table, f"{name}.parquet"), out=tmp_path / name)
        assert done.exit_code == 0, f"{name}: {done.output}"
        rows = result_rows(tmp_path / name)
        assert [row["image"] for row in rows][1:] == [None, None]
        answers.add(tuple(row["p_ai"] for row in rows))
        assert base64.b64encode(data[1])[:40] not in b"".join(contents(tmp_path / name).values())
    assert len(answers) == 1


def test_files_of_one_manifest_may_differ_and_what_differs_is_said_once(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    image = pa.array([encoded_image(1)])
    tables = [
        {"image": image, "id": pa.array([1])},
        {"Image": image, "text": pa.array(["a cat"]), "id": pa.array([0.5])},
        {"jpg": image, "id": pa.nulls(1), "caption": pa.array([["a cat", "an animal"]])},
    ]
    for number, columns in enumerate(tables):
        write_manifest(pa.table(columns), f"set/{number}.parquet")
    manifest = tmp_path / "set"
    done = scan(manifest, "--keep", "id", "--shard-rows", 1)
    assert done.exit_code == 0, done.output
    assert done.stderr.count(f"{manifest}/0.parquet: no column of prompts") == 1
    assert done.stderr.count("only caption[0] is each row's prompt") == 1
    rows = result_rows(tmp_path / "results")
    assert [row["id"] for row in rows] == [1.0, 0.5, None]
    assert rows[0]["p_ai"] != rows[1]["p_ai"] == rows[2]["p_ai"]
    record = json.loads((tmp_path / "results" / "scan.json").read_text())
    assert record["settings"]["columns"] == {
        "image": "image",
        "prompt": "text",
        "keep": ["id"],
        "others": [["Image", "text"], ["image", None], ["jpg", "caption"]],
    }
    before = contents(tmp_path / "results")
    (tmp_path / "results" / "detections" / "part-000002.parquet").unlink()
    (tmp_path / "results" / "summary.json").unlink()
    assert scan(manifest, "--keep", "id", "--shard-rows", 1).exit_code == 0
    after = contents(tmp_path / "results")
    assert {name: after[name] for name in after if name != "summary.json"} == {
        name: before[name] for name in before if name != "summary.json"
    }


def test_no_prompts_scores_as_if_there_were_none(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    image = pa.array([encoded_image(1)])
    with_prompts = write_manifest(pa.table({"image": image, "prompt": ["a cat"]}))
    without = write_manifest(pa.table({"image": image}), "without.parquet")
    assert scan(with_prompts, "--no-prompts").exit_code == 0
    assert scan(without, out=tmp_path / "without").exit_code == 0
    assert scan(with_prompts, out=tmp_path / "with").exit_code == 0
    one, other, prompted = (
        result_rows(tmp_path / name)[0]["p_ai"] for name in ("results", "without", "with")
    )
    assert one == other != prompted
    refused = scan(with_prompts)
    assert refused.exit_code == 2
    assert "settings.columns" in refused.stderr


def test_too_many_errors_end_with_status_3(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    table = rows_of_images([{"bytes": encoded_image(1), "path": None}, None])
    result = scan(write_manifest(table))
    assert result.exit_code == 3
    assert "--max-error-rate" in result.stderr
    assert len(result_rows(tmp_path / "results")) == 2


def _usage_cases(write: Write, tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    plain = write(4)
    (tmp_path / "cut.parquet").write_bytes(plain.read_bytes()[:-300])
    (tmp_path / "text.parquet").write_text("not a Parquet file at all")
    (tmp_path / "small.parquet").write_text("x")
    (tmp_path / "none").mkdir()
    (tmp_path / "not-a-folder").write_text("x")
    no_image = write(pa.table({"number": [1, 2]}), "no-image.parquet")
    number = write(pa.table({"image": [1, 2], "prompt": ["a", "b"]}), "number.parquet")
    no_rows = write(manifest_table(1).slice(0, 0), "no-rows.parquet")
    return {
        "no such manifest": ([tmp_path / "nowhere.parquet"], "no such file"),
        "no image column": ([no_image], "--image-column"),
        "image column not there": ([plain, "--image-column", "photo"], "photo"),
        "image column is a number": ([number], "int64"),
        "prompt column is a number": ([plain, "--prompt-column", "id"], "int64"),
        "no prompt column of that name": ([plain, "--prompt-column", "words"], "words"),
        "a prompt column and none": (
            [plain, "--prompt-column", "Caption", "--no-prompts"],
            "give one of --prompt-column and --no-prompts, not both",
        ),
        "prompt column is a number by its usual name": (
            [write(pa.table({"image": ["a"], "text": [1]}), "text-number.parquet")],
            "name another with --prompt-column, or give --no-prompts",
        ),
        "kept column not there": ([plain, "--keep", "colour"], "colour"),
        "kept column named as a result": (
            [
                write(manifest_table(2).append_column("source", pa.array(["a", "b"])), "s.parquet"),
                "--keep",
                "source",
            ],
            "source",
        ),
        "no rows": ([no_rows], "no rows"),
        "empty folder": ([tmp_path / "none"], "nothing to scan there"),
        "no Parquet": ([tmp_path / "text.parquet"], "not a Parquet file"),
        "tiny": ([tmp_path / "small.parquet"], "not a Parquet file"),
        "truncated": ([tmp_path / "cut.parquet"], "truncated"),
        "no such model": ([plain, "--model", tmp_path / "none"], "contract.json"),
        "threshold and max-fpr": (
            [plain, "--threshold", 0.5, "--max-fpr", 0.01],
            "give one of --threshold and --max-fpr, not both",
        ),
        "the image kept": (
            [write(rows_of_images([None]), "image.parquet"), "--keep", "image"],
            "--keep image: every result file has a column of that name; leave it out",
        ),
        "threshold out of range": ([plain, "--threshold", 1.5], "1.5"),
        "no such image root": ([plain, "--image-root", tmp_path / "gone"], "gone"),
        "unknown scheme": (["gopher://host/manifest.parquet"], "gopher"),
    }


def test_usage_errors_are_one_clear_line_and_status_2(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    for name, (arguments, said) in _usage_cases(write_manifest, tmp_path).items():
        result = scan(*arguments)
        assert result.exit_code == 2, f"{name}: {result.output}"
        assert said in result.stderr, f"{name}: {result.stderr}"
        assert "Traceback" not in result.output
        assert not (tmp_path / "results" / "scan.json").exists(), name


def test_out_that_is_a_file_is_status_2(scan: Scan, write_manifest: Write, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    result = scan(write_manifest(2), out=tmp_path / "taken")
    assert result.exit_code == 2
    assert "taken" in result.stderr


def test_an_unwritable_out_is_status_2(scan: Scan, write_manifest: Write) -> None:
    # Not even root can make a folder there.
    result = scan(write_manifest(2), out=Path("/proc/results"))
    assert result.exit_code == 2
    assert "--out /proc/results: cannot be written to" in result.stderr


def test_results_inside_the_manifests_folder_are_refused(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    folder = write_manifest(2, "many/a.parquet").parent
    for out in (folder, folder / "below" / "results"):
        result = scan(folder, out=out)
        assert result.exit_code == 2
        assert f"--out {out}: is inside the manifest's folder {folder}" in result.stderr
    assert scan(folder / "a.parquet", out=folder / "results").exit_code == 0


@pytest.mark.parametrize(
    "change", ["input", "threshold", "shard-rows", "keep", "limit", "image-root"]
)
def test_another_scan_in_the_same_folder_is_refused(
    scan: Scan, write_manifest: Write, change: str, tmp_path: Path
) -> None:
    manifest = write_manifest(10)
    assert scan(manifest).exit_code == 0
    before = contents(tmp_path / "results")
    if change == "input":
        write_manifest(11)
    options = {
        "threshold": ("--threshold", 0.7),
        "shard-rows": ("--shard-rows", 5),
        "keep": ("--keep", "id"),
        "limit": ("--limit", 3),
        "image-root": ("--image-root", tmp_path),
    }
    result = scan(manifest, *options.get(change, ()))
    assert result.exit_code == 2
    assert "differing" in result.stderr
    assert contents(tmp_path / "results") == before


def test_an_old_results_folder_is_refused_in_one_line_and_left_as_it_is(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(10)
    assert scan(manifest).exit_code == 0
    results = tmp_path / "results"
    record = json.loads((results / "scan.json").read_text()) | {"format": 2}
    (results / "scan.json").write_text(json.dumps(record))
    (results / "detections" / "part-000000.parquet").rename(results / "detections-000000.parquet")
    (results / "detections").rmdir()
    before = contents(results)
    result = scan(manifest)
    assert result.exit_code == 2
    assert result.stderr == (
        f"aigid: {results}: holds results of another version of aigid (detections-*.parquet "
        "beside scan.json), and this version continues format 6 only: give another folder as "
        "--out\n"
    )
    assert contents(results) == before
    assert not (results / "detections").exists()


def test_an_error_of_each_kind_is_in_the_summary_with_its_first_row(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    table = rows_of_images(
        [
            {"bytes": encoded_image(1), "path": None},
            {"bytes": None, "path": "gone.png"},
            {"bytes": b"text", "path": "notes.png"},
            {"bytes": None, "path": "gone as well.png"},
        ]
    )
    manifest = write_manifest(table)
    assert scan(manifest, "--max-error-rate", 1, "--shard-rows", 1).exit_code == 0
    rows = result_rows(tmp_path / "results")
    assert [row["image"] for row in rows] == [None, "gone.png", None, "gone as well.png"]
    assert summary_of(tmp_path / "results")["error_examples"] == {
        code: {
            "manifest": str(manifest),
            "row": row,
            "image": rows[row]["image"],
            "detail": rows[row]["error_detail"],
        }
        for code, row in (("missing", 1), ("undecodable", 2))
    }


def test_no_secret_of_an_image_reference_is_written_to_results(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    # No host is asked: reserved names and private addresses are refused before.
    references = [
        "https://user:s3cr3t@127.0.0.1/a.png",
        "https://127.0.0.1/b.png?X-Amz-Signature=s3cr3t",
        "s3://key:s3cr3t@bucket/c.png",
        "gs://bucket/d.png?token=s3cr3t",
        "ftp://user:s3cr3t@host/e.png?token=s3cr3t#s3cr3t",
    ]
    manifest = write_manifest(pa.table({"image_url": references, "text": ["x"] * 5}))
    result = scan(manifest, "--max-error-rate", 1)
    assert result.exit_code == 0, result.output
    rows = result_rows(tmp_path / "results")
    assert [row["image"] for row in rows] == [
        "https://127.0.0.1/a.png",
        "https://127.0.0.1/b.png?...",
        "s3://bucket/c.png",
        "gs://bucket/d.png?...",
        "ftp://host/e.png?...",
    ]
    assert all(row["error"] for row in rows)
    assert "s3cr3t" not in f"{rows} {summary_of(tmp_path / 'results')} {result.output}"
    assert not any(b"s3cr3t" in data for data in contents(tmp_path / "results").values())


def test_a_finished_scan_started_again_changes_nothing(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(10)
    first = scan(manifest, "--json")
    again = scan(manifest, "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == json.loads(first.stdout)


def test_a_missing_shard_is_scanned_again_to_the_same_bytes(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(30, row_group_size=5)
    assert scan(manifest, "--shard-rows", 10).exit_code == 0
    lost = tmp_path / "results" / "detections" / "part-000001.parquet"
    before = lost.read_bytes()
    lost.unlink()
    (tmp_path / "results" / "summary.json").unlink()
    assert scan(manifest, "--shard-rows", 10).exit_code == 0
    assert lost.read_bytes() == before
    assert summary_of(tmp_path / "results")["run"]["rows"] == 10


def test_a_damaged_result_file_is_named(scan: Scan, write_manifest: Write, tmp_path: Path) -> None:
    manifest = write_manifest(10)
    assert scan(manifest).exit_code == 0
    (tmp_path / "results" / "summary.json").unlink()
    (tmp_path / "results" / "shards.arrow").unlink()
    (tmp_path / "results" / "detections" / "part-000000.parquet").write_bytes(b"PAR1 damaged")
    result = scan(manifest)
    assert result.exit_code == 1
    assert "detections/part-000000.parquet" in result.stderr


def test_a_page_damaged_in_the_manifest_ends_with_status_1_and_keeps_commits(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(30, row_group_size=10, compression="none")
    data = bytearray(manifest.read_bytes())
    offset = pq.read_metadata(manifest).row_group(2).column(1).data_page_offset
    data[offset : offset + 40] = b"\xff" * 40
    manifest.write_bytes(bytes(data))
    result = scan(manifest, "--shard-rows", 10)
    assert result.exit_code == 1
    assert str(manifest) in result.stderr
    assert "Traceback" not in result.output
    assert len(result_files(tmp_path / "results")) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root: sudo make test")
def test_a_full_disk_ends_with_status_1_and_the_scan_goes_on_when_there_is_room(
    scan: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode:
        pytest.skip(
            f"cannot mount a small disk here: {mount.stderr.strip()}; "
            "run `sudo make test` where mounting is allowed"
        )
    try:
        table = manifest_table(400).append_column(
            "noise", pa.array([os.urandom(300) for _ in range(400)])
        )
        manifest = write_manifest(table)
        result = scan(manifest, "--shard-rows", 50, "--keep", "noise", out=disk / "results")
        assert result.exit_code == 1, result.output
        assert "No space left" in result.stderr
        assert not list((disk / "results").rglob(".*.tmp"))
        committed = {path: path.read_bytes() for path in result_files(disk / "results")}
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert (
            scan(manifest, "--shard-rows", 50, "--keep", "noise", out=disk / "results").exit_code
            == 0
        )
        assert len(result_rows(disk / "results")) == 400
        assert all(path.read_bytes() == data for path, data in committed.items())
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.integration
def test_ctrl_c_ends_with_130_and_keeps_commits(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    manifest = write_manifest(6000, row_group_size=100)
    out = tmp_path / "results"
    process = start_scan(
        manifest, out, "--model", tiny_repository, "--shard-rows", "100", "--threads", "1"
    )
    assert await_commits(process, out, 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    committed = result_files(out)
    assert 0 < len(committed) < 60
    assert all(pq.read_table(path).num_rows == 100 for path in committed)


@pytest.mark.integration
def test_odd_files_do_not_flood_the_terminal(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    cut_exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0"
    Image.new("RGB", (40, 40)).save(buffer, "JPEG", exif=cut_exif)
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        Image.open(buffer).getexif()
    manifest = write_manifest(rows_of_images([{"bytes": buffer.getvalue(), "path": None}]))
    process = start_scan(manifest, tmp_path / "results", "--model", tiny_repository)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "EXIF" not in said


@pytest.mark.integration
@pytest.mark.parametrize(
    ("shards", "kills"), [(24, 5), pytest.param(130, 50, marks=pytest.mark.soak)]
)
def test_killed_at_random_moments_the_results_are_byte_identical(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path, shards: int, kills: int
) -> None:
    manifest = write_manifest(shards * 100, row_group_size=100)
    started = time.monotonic()
    whole = start_scan(
        manifest, tmp_path / "whole", "--model", tiny_repository, "--shard-rows", "100"
    )
    assert await_commits(whole, tmp_path / "whole", 1)
    first_s = time.monotonic() - started
    whole.communicate(timeout=300)
    assert whole.returncode == 0
    shard_s = (time.monotonic() - started - first_s) / (shards - 1)
    rng = np.random.default_rng(3)
    for kill in range(kills):
        committed = len(result_files(tmp_path / "killed"))
        process = start_scan(
            manifest, tmp_path / "killed", "--model", tiny_repository, "--shard-rows", "100"
        )
        # Moments are counted in commits, not in seconds alone: however the host's speed
        # drifts, the scan lasts through all kills. Every third comes before a commit.
        if kill % 3:
            assert await_commits(process, tmp_path / "killed", committed + kill % 3)
            time.sleep(rng.uniform(0, shard_s))
        else:
            await_commits(
                process, tmp_path / "killed", committed + 1, seconds=rng.uniform(0.2, 1) * first_s
            )
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        if (tmp_path / "killed" / "scan.json").exists():
            found = verify_results(open_results(str(tmp_path / "killed")))
            assert {one.kind for one in found} - {FindingKind.LEFTOVER} == {FindingKind.UNFINISHED}
    assert 0 < len(result_files(tmp_path / "killed")) < shards
    last = start_scan(
        manifest, tmp_path / "killed", "--model", tiny_repository, "--shard-rows", "100"
    )
    last.communicate(timeout=300)
    assert last.returncode == 0
    files = {name: result_files(tmp_path / name) for name in ("whole", "killed")}
    assert [path.name for path in files["whole"]] == [path.name for path in files["killed"]]
    assert [path.read_bytes() for path in files["whole"]] == [
        path.read_bytes() for path in files["killed"]
    ]
    assert not list((tmp_path / "killed").rglob(".*.tmp"))
    assert list(verify_results(open_results(str(tmp_path / "killed")))) == []


@pytest.mark.integration
def test_two_scans_into_one_folder_do_not_mix(
    tiny_repository: Path, write_manifest: Write, tmp_path: Path, scan: Scan
) -> None:
    manifest = write_manifest(3000, row_group_size=100)
    out = tmp_path / "results"
    process = start_scan(
        manifest, out, "--model", tiny_repository, "--shard-rows", "100", "--threads", "1"
    )
    try:
        deadline = time.monotonic() + 300
        while not result_files(out):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second = scan(manifest, "--shard-rows", 100)
        assert second.exit_code == 2
        assert "another scan" in second.stderr
    finally:
        process.wait(timeout=120)
        process.communicate()
    assert process.returncode == 0


def _png_header(width: int, height: int) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )
