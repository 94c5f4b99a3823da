"""Scans of data sets of the Hugging Face Hub, as a user runs them, from a server on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hub_server import TOKEN, Hub, HubRequest, Refusal, hub_server
from support.manifests import CAPTIONS, encoded_image
from support.scan_process import await_commits, start_scan
from support.scan_results import result_files, result_rows

pytestmark = pytest.mark.integration

ROWS, SHARD_ROWS = 90, 20
FILES = {"train-0.parquet": 33, "train-1.parquet": 40, "validation.parquet": 17}
URI = "hf://datasets/owner/pairs/data"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files whose images are files beside them."""
    folder, start = tmp_path_factory.mktemp("hub") / "data", 0
    (folder / "images").mkdir(parents=True)
    for name, rows in FILES.items():
        span = range(start, start + rows)
        columns = {
            "id": span,
            "image": [f"images/{row}.png" for row in span],
            "prompt": [CAPTIONS[row % len(CAPTIONS)] for row in span],
        }
        pq.write_table(pa.table(columns), folder / name, row_group_size=9)
        start += rows
    for row in range(ROWS):
        (folder / "images" / f"{row}.png").write_bytes(encoded_image(row))
    return folder


@pytest.fixture
def hub(manifest: Path) -> Iterator[Hub]:
    """A private data set with the manifest's files."""
    with hub_server() as server:
        found = (path for path in manifest.rglob("*") if path.is_file())
        server.put({f"data/{path.relative_to(manifest)}": path.read_bytes() for path in found})
        server.private.add("owner/pairs")
        yield server


@pytest.fixture
def options(tiny_repository: Path) -> list[object]:
    return ["--model", tiny_repository, "--shard-rows", SHARD_ROWS, "--keep", "id"]


def variables(hub: Hub) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "NO_PROXY": "127.0.0.1"}


def run_scan(
    source: object, out: Path, *options: object, hub: Hub
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "aigid", "scan", source, "--out", out, *options]
    return subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        env=os.environ | variables(hub),
        check=False,
        timeout=300,
    )


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in result_files(out)}


def test_a_scan_of_the_hub_has_the_rows_of_the_same_scan_on_a_disk(
    hub: Hub, manifest: Path, options: list[object], tmp_path: Path
) -> None:
    assert run_scan(manifest, tmp_path / "local", *options, hub=hub).returncode == 0
    done = run_scan(URI, tmp_path / "out", *options, hub=hub)
    assert done.returncode == 0, done.stderr
    rows, local = result_rows(tmp_path / "out"), result_rows(tmp_path / "local")
    assert {row.pop("manifest") for row in rows} == {f"{URI}/{name}" for name in FILES}
    assert [row for row in local if row.pop("manifest")] == rows
    assert {row["error"] for row in rows} == {None}
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(b"SECRET" in data for data in [*written, done.stderr.encode()])


def test_a_killed_scan_goes_on_through_failures_with_the_same_bytes(
    hub: Hub, options: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_scan(URI, tmp_path / "whole", *options, hub=hub).returncode == 0
    turn = count()

    def fail(request: HubRequest) -> Refusal | None:
        again = (("Retry-After", "0"),)
        return Refusal(503, headers=again) if next(turn) % 40 == 39 else None

    hub.refuse = fail
    for name, value in variables(hub).items():
        monkeypatch.setenv(name, value)
    process = start_scan(URI, tmp_path / "out", *options)
    assert await_commits(process, tmp_path / "out", 2)
    process.kill()
    process.communicate()
    hub.put({"README.md": b"a commit that changes no row", **hub.files()})
    assert run_scan(URI, tmp_path / "out", *options, hub=hub).returncode == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_resume_of_other_rows_is_refused(hub: Hub, options: list[object], tmp_path: Path) -> None:
    assert run_scan(URI, tmp_path / "out", *options, hub=hub).returncode == 0
    files = dict(hub.files())
    files["data/train-1.parquet"] = files["data/validation.parquet"]
    hub.put(files)
    done = run_scan(URI, tmp_path / "out", *options, hub=hub)
    assert done.returncode == 2
    assert f"{URI}/train-1.parquet" in done.stderr


def test_a_scan_on_ray_has_the_same_files(hub: Hub, options: list[object], tmp_path: Path) -> None:
    assert run_scan(URI, tmp_path / "local", *options, hub=hub).returncode == 0
    done = run_scan(URI, tmp_path / "ray", *options, "--ray", "local", hub=hub)
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")
