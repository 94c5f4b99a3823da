"""The scan on a Ray cluster: the same files as the local scan's, whatever dies meanwhile."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.c2pa_files import make_issuer
from support.evidence_files import A1111, png_with_text
from support.manifests import manifest_table
from support.process_messages import Messages
from support.ray_cluster import RayNodes, ray_nodes
from support.scan_process import await_commits, start_scan, wait_until
from support.scan_results import result_files, result_rows, summary_of
from support.source_forms import write_form

pytestmark = pytest.mark.integration

ROWS, SHARD_ROWS = 1500, 25
Options = Callable[..., list[object]]


def contents(out: Path) -> dict[str, bytes]:
    """The result files, and the list of them that a finished scan has."""
    paths = [*result_files(out), *out.glob("shards.arrow")]
    return {path.name: path.read_bytes() for path in paths}


def finished(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    """Return the exit status, stdout and stderr of a scan."""
    stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    """Three nodes; a test that kills a node adds one before."""
    with ray_nodes(3) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of many sizes: shards contain several files, and files are in several shards."""
    folder = tmp_path_factory.mktemp("ray") / "manifest"
    folder.mkdir()
    whole, start = with_marks(manifest_table(ROWS)), 0
    for number, rows in enumerate((700, 3, 10, 17, 420, 350)):
        pq.write_table(whole.slice(start, rows), folder / f"{number}.parquet", row_group_size=40)
        start += rows
    assert start == ROWS
    return folder


def with_marks(table: pa.Table) -> pa.Table:
    """The table, with an image of a generator's metadata in every tenth row, from the third on."""
    marked = {"bytes": png_with_text(parameters=A1111), "path": None}
    images = table.column("Image").to_pylist()
    images[3::10] = [marked] * len(images[3::10])
    index = table.schema.get_field_index("Image")
    return table.set_column(index, "Image", pa.array(images, table.schema.field("Image").type))


@pytest.fixture(scope="module")
def options(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    anchors = tmp_path_factory.mktemp("trust") / "anchors.pem"
    anchors.write_text(make_issuer().root)
    evidence = ["--evidence", "--trust-list", anchors]
    return ["--model", tiny_repository, "--shard-rows", SHARD_ROWS, "--keep", "id", *evidence]


@pytest.fixture(scope="module")
def local(
    manifest: Path, options: list[object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The result files of the local scan."""
    out = tmp_path_factory.mktemp("local") / "out"
    status, _, stderr = finished(start_scan(manifest, out, *options))
    assert status == 0, stderr
    return contents(out)


def test_a_worker_and_a_whole_node_are_killed_and_the_results_are_the_local_scans(
    nodes: RayNodes, manifest: Path, options: list[object], local: dict[str, bytes], tmp_path: Path
) -> None:
    node = nodes.add()
    # All four workers are ready before the first shard is given: each has shards when it is killed.
    scan = start_scan(
        manifest, tmp_path / "out", *options, "--ray", nodes.address, "--min-workers", 4
    )
    assert await_commits(scan, tmp_path / "out", 5)
    os.kill(nodes.shard_workers()[0].pid, signal.SIGKILL)
    assert await_commits(scan, tmp_path / "out", 20)
    nodes.remove(node, allow_graceful=False)
    status, stdout, stderr = finished(scan)
    assert status == 0, stderr
    assert contents(tmp_path / "out") == local
    rows = result_rows(tmp_path / "out")
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert [row["id"] for row in rows if row["evidence"] == "ai"] == list(range(3, ROWS, 10))
    assert "it will be retried" in stderr
    assert "raylet" not in stdout
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    wait_until(lambda: not nodes.shard_workers(), "workers are left")


def test_a_driver_is_killed_and_the_same_command_resumes(
    nodes: RayNodes, manifest: Path, options: list[object], local: dict[str, bytes], tmp_path: Path
) -> None:
    scan = start_scan(manifest, tmp_path / "out", *options, "--ray", nodes.address)
    assert await_commits(scan, tmp_path / "out", 10)
    scan.kill()
    finished(scan)
    before = {path: path.stat().st_mtime_ns for path in result_files(tmp_path / "out")}
    assert 10 <= len(before) < len(local)
    status, _, stderr = finished(
        start_scan(manifest, tmp_path / "out", *options, "--ray", nodes.address)
    )
    assert status == 0, stderr
    assert contents(tmp_path / "out") == local
    # The workers of the killed driver may have committed a little longer.
    kept = [path for path, at in before.items() if path.stat().st_mtime_ns == at]
    assert len(kept) >= len(before) - 2 * 3
    assert " of them done before" in stderr
    assert summary_of(tmp_path / "out")["rows"] == ROWS


def test_a_scan_begun_locally_resumes_on_a_cluster_and_vice_versa(
    nodes: RayNodes, manifest: Path, options: list[object], local: dict[str, bytes], tmp_path: Path
) -> None:
    for name, first, then in (
        ("a", [], ["--ray", nodes.address]),
        ("b", ["--ray", nodes.address], []),
    ):
        out = tmp_path / name
        scan = start_scan(manifest, out, *options, *first)
        assert await_commits(scan, out, 8)
        scan.kill()
        finished(scan)
        status, _, stderr = finished(start_scan(manifest, out, *options, *then))
        assert status == 0, stderr
        assert contents(out) == local


def test_duplicates_are_scored_once_on_a_cluster_and_have_the_local_scan_s_answers(
    nodes: RayNodes, tiny_repository: Path, tmp_path: Path
) -> None:
    table = manifest_table(80)
    repeated = pa.concat_tables([table] * 5)
    pq.write_table(repeated, tmp_path / "m.parquet", row_group_size=40)
    options = ["--model", tiny_repository, "--shard-rows", 40, "--hash"]
    on_ray = ["--ray", nodes.address, "--max-workers", 1]
    for out, more in (("local", []), ("ray", on_ray)):
        status, _, stderr = finished(
            start_scan(tmp_path / "m.parquet", tmp_path / out, *options, *more)
        )
        assert status == 0, stderr
        run: Any = summary_of(tmp_path / out)["run"]
        assert run["duplicates"] == 320
        assert run["decode_s"] > 0
        assert run["score_s"] > 0
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_failed_rows_are_retried_on_a_cluster_as_here(
    nodes: RayNodes, tiny_repository: Path, tmp_path: Path
) -> None:
    source = write_form("csv", tmp_path, 200)
    images = {row: source.parent / f"{row:05}.png" for row in (3, 40, 41, 120, 199)}
    data = {row: path.read_bytes() for row, path in images.items()}
    for path in images.values():
        path.write_bytes(b"")
    images[120].unlink()
    out = tmp_path / "out"
    options = ["--model", tiny_repository, "--shard-rows", 15]
    on_ray = ["--ray", nodes.address, "--min-workers", 2]
    status, _, stderr = finished(start_scan(source, out, *options))
    assert status == 0, stderr
    before = {path: path.stat().st_mtime_ns for path in result_files(out)}
    for row, path in images.items():
        path.write_bytes(data[row])
    status, _, stderr = finished(
        start_scan(source, out, *options, *on_ray, "--retry-errors", "empty")
    )
    assert status == 0, stderr
    assert "rows that were scanned again: 4; scored now: 4; failed again: 0" in stderr
    assert summary_of(out)["errors"] == {"missing": 1}
    assert sum(path.stat().st_mtime_ns != at for path, at in before.items()) == 3
    assert finished(start_scan(source, out, *options, *on_ray, "--retry-errors"))[0] == 0
    assert finished(start_scan(source, tmp_path / "whole", *options))[0] == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("form", ["folder", "json lines", "tars"])
def test_what_is_no_parquet_is_scanned_on_a_cluster_as_here(
    nodes: RayNodes, tiny_repository: Path, tmp_path: Path, form: str
) -> None:
    source = write_form(form, tmp_path, 200)
    options = ["--model", tiny_repository, "--shard-rows", 15]
    on_ray = ["--ray", nodes.address, "--min-workers", 2]
    for out, more in (("local", []), ("ray", on_ray)):
        status, _, stderr = finished(start_scan(source, tmp_path / out, *options, *more))
        assert status == 0, stderr
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert summary_of(tmp_path / "ray")["rows"] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_scan_on_a_cluster_ends_with_its_workers(
    nodes: RayNodes,
    manifest: Path,
    options: list[object],
    local: dict[str, bytes],
    tmp_path: Path,
    number: int,
) -> None:
    out = tmp_path / "out"
    with start_scan(manifest, out, *options, "--ray", nodes.address) as scan:
        assert await_commits(scan, out, 3)
        workers = nodes.shard_workers()
        scan.send_signal(number)
        status, _, stderr = finished(scan, 30)
    assert status == 128 + number, stderr
    assert stderr.splitlines()[-1].startswith("aigid: scan interrupted; committed shards stay: ")
    assert "Traceback" not in stderr
    assert "***" not in stderr, "Ray's stack trace"
    assert workers
    wait_until(lambda: not nodes.shard_workers(), "workers are left")
    committed = contents(out)
    assert 3 <= len(committed) < len(local)
    assert finished(start_scan(manifest, out, *options))[0] == 0
    assert contents(out) == local


def test_a_scan_that_waits_for_workers_ends(
    nodes: RayNodes, manifest: Path, options: list[object], tmp_path: Path
) -> None:
    room = ["--worker-cpus", 64, "--min-workers", 1]
    scan = start_scan(manifest, tmp_path / "out", *options, "--ray", nodes.address, *room)
    messages = Messages(scan)
    messages.wait_for("waiting for workers")
    scan.send_signal(signal.SIGTERM)
    text = messages.until_exit(30)
    assert scan.returncode == 143
    assert text.splitlines()[-1].startswith("aigid: scan interrupted; ")
    assert "Traceback" not in text
