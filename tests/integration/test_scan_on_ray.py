"""The scan on a Ray cluster: the same files as the local scan's, whatever dies on the way."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster
from support.manifests import manifest_table
from support.ray_cluster import add_node, ray_nodes, shard_workers
from support.scan_process import await_commits, start_scan, wait_until
from support.scan_results import result_files, result_rows, summary_of

pytestmark = pytest.mark.integration

ROWS, SHARD_ROWS = 1500, 25
Options = Callable[..., list[object]]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in result_files(folder)}


def finished(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a scan."""
    stdout, stderr = process.communicate(timeout=seconds)
    return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes; tests that kill one put another in its place."""
    with ray_nodes(3) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of many sizes, so that shards reach over several and files over several shards."""
    folder = tmp_path_factory.mktemp("ray") / "manifest"
    folder.mkdir()
    whole, start = manifest_table(ROWS), 0
    for number, rows in enumerate((700, 3, 10, 17, 420, 350)):
        pq.write_table(whole.slice(start, rows), folder / f"{number}.parquet", row_group_size=40)
        start += rows
    assert start == ROWS
    return folder


@pytest.fixture(scope="module")
def options(tiny_repository: Path) -> list[object]:
    return ["--model", tiny_repository, "--shard-rows", SHARD_ROWS, "--keep", "id"]


@pytest.fixture(scope="module")
def local(
    manifest: Path, options: list[object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What the local scan makes of the manifest."""
    out = tmp_path_factory.mktemp("local") / "out"
    status, _, stderr = finished(start_scan(manifest, out, *options))
    assert status == 0, stderr
    return contents(out)


def test_a_worker_and_a_whole_node_are_killed_and_the_results_are_the_local_scans(
    cluster: Cluster, manifest: Path, options: list[object], local: dict[str, bytes], tmp_path: Path
) -> None:
    node = add_node(cluster)
    # All four are there before the first shard is given: whichever is killed then has shards in hand.
    scan = start_scan(
        manifest, tmp_path / "out", *options, "--ray", cluster.address, "--min-workers", 4
    )
    assert await_commits(scan, tmp_path / "out", 5)
    os.kill(shard_workers()[0].pid, signal.SIGKILL)
    assert await_commits(scan, tmp_path / "out", 20)
    cluster.remove_node(node, allow_graceful=False)
    status, stdout, stderr = finished(scan)
    assert status == 0, stderr
    assert contents(tmp_path / "out") == local
    assert [row["id"] for row in result_rows(tmp_path / "out")] == list(range(ROWS))
    assert "it will be tried again" in stderr
    assert "raylet" not in stdout
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    wait_until(lambda: not shard_workers(), "workers are left")


def test_a_driver_is_killed_and_the_same_command_goes_on(
    cluster: Cluster, manifest: Path, options: list[object], local: dict[str, bytes], tmp_path: Path
) -> None:
    scan = start_scan(manifest, tmp_path / "out", *options, "--ray", cluster.address)
    assert await_commits(scan, tmp_path / "out", 10)
    scan.kill()
    finished(scan)
    before = {path.name: path.stat().st_mtime_ns for path in result_files(tmp_path / "out")}
    assert 10 <= len(before) < len(local)
    status, _, stderr = finished(
        start_scan(manifest, tmp_path / "out", *options, "--ray", cluster.address)
    )
    assert status == 0, stderr
    assert contents(tmp_path / "out") == local
    # What the first one's workers were at when it died may have come a moment later.
    kept = [
        name for name, at in before.items() if (tmp_path / "out" / name).stat().st_mtime_ns == at
    ]
    assert len(kept) >= len(before) - 2 * 3
    assert " of them done before" in stderr
    assert summary_of(tmp_path / "out")["rows"] == ROWS


def test_a_scan_begun_locally_goes_on_on_a_cluster_and_the_other_way_round(
    cluster: Cluster, manifest: Path, options: list[object], local: dict[str, bytes], tmp_path: Path
) -> None:
    for name, first, then in (
        ("a", [], ["--ray", cluster.address]),
        ("b", ["--ray", cluster.address], []),
    ):
        out = tmp_path / name
        scan = start_scan(manifest, out, *options, *first)
        assert await_commits(scan, out, 8)
        scan.kill()
        finished(scan)
        status, _, stderr = finished(start_scan(manifest, out, *options, *then))
        assert status == 0, stderr
        assert contents(out) == local
