"""What a scan on a Ray cluster says where it cannot be done, or not wholly."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._raylet import GcsClient
from support.manifests import manifest_table
from support.ray_cluster import add_node, ray_nodes
from support.scan_results import result_files, result_rows

import aigid

pytestmark = pytest.mark.integration

Write = Callable[..., Path]
PACKAGE = Path(aigid.__file__).parent


@pytest.fixture
def scan_on(
    tiny_repository: Path, tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a scan in a folder of its own: Ray tells workers of the driver's, and they would find the package there."""

    def run(address: str, manifest: Path, *options: object) -> subprocess.CompletedProcess[str]:
        words = ["scan", manifest, "--out", tmp_path / "out", "--ray", address, *options]
        command = [sys.executable, "-m", "aigid", *map(str, words)]
        (tmp_path / "cwd").mkdir(exist_ok=True)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RAY_")
        }
        return subprocess.run(
            command,
            cwd=tmp_path / "cwd",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def last_line(process: subprocess.CompletedProcess[str]) -> str:
    return process.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("127.0.0.1:1", 1, "--ray 127.0.0.1:1: nobody listens there"),
        ("no-such-host.invalid:6379", 1, "--ray no-such-host.invalid:6379: nobody listens there"),
        ("auto", 1, "this machine is in no running Ray cluster"),
        (
            "ray://127.0.0.1:10001",
            2,
            "a scan runs on a machine of its cluster: submit it with `ray job submit",
        ),
        (
            "manifest.parquet",
            2,
            "no address of a cluster: give HOST:PORT, auto or local (write --ray=auto",
        ),
    ],
)
def test_a_cluster_that_is_not_there_is_named(
    scan_on: Callable[..., subprocess.CompletedProcess[str]],
    write_manifest: Write,
    address: str,
    status: int,
    said: str,
    tmp_path: Path,
) -> None:
    refused = scan_on(address, write_manifest(3))
    assert refused.returncode == status, refused.stderr
    assert said in last_line(refused)
    assert not (tmp_path / "out").exists()


def test_another_version_of_ray_or_python_is_named_beside_ones_own(
    scan_on: Callable[..., subprocess.CompletedProcess[str]], write_manifest: Write
) -> None:
    with ray_nodes(1) as cluster:
        store = GcsClient(address=cluster.address)
        facts = json.loads(store.internal_kv_get(CLUSTER_METADATA_KEY, b"cluster"))
        facts |= {"ray_version": "2.40.1", "python_version": "3.9.99"}
        for namespace in (None, b"cluster"):
            store.internal_kv_put(CLUSTER_METADATA_KEY, json.dumps(facts).encode(), True, namespace)
        refused = scan_on(cluster.address, write_manifest(3))
    assert refused.returncode == 1
    for version in (
        "2.40.1",
        "3.9.99",
        f"{sys.version_info.major}.{sys.version_info.minor}",
        "Version mismatch",
    ):
        assert version in last_line(refused)


def package_without(folder: Path, what: str) -> Path:
    """A folder to import aigid from, as a machine has it that lacks something."""
    if what == "the package":
        (folder / "aigid").mkdir(parents=True)
        (folder / "aigid" / "__init__.py").write_text("")
        return folder
    shutil.copytree(PACKAGE, folder / "aigid", ignore=shutil.ignore_patterns("__pycache__"))
    if what == "the version":
        path = folder / "aigid" / "version.py"
        path.write_text(path.read_text().replace(aigid.__version__, "0.0.9"))
    return folder


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        (
            "the package",
            "No module named 'aigid.runners': install aigid there, with the extras that it has here",
        ),
        ("the model", "the demo model is missing from this installation"),
        (
            "the version",
            f"has aigid 0.0.9, but the scan was started with {aigid.__version__}: install the same",
        ),
    ],
)
def test_a_machine_without_what_it_needs_is_named_and_without_others_it_is_the_end(
    scan_on: Callable[..., subprocess.CompletedProcess[str]],
    write_manifest: Write,
    lacks: str,
    said: str,
    tmp_path: Path,
) -> None:
    path = package_without(tmp_path / "lacking", lacks)
    with ray_nodes(1, num_cpus=0) as cluster:
        add_node(cluster, env_vars={"PYTHONPATH": str(path)})
        cluster.wait_for_nodes()
        refused = scan_on(cluster.address, write_manifest(3))
    assert refused.returncode == 1, refused.stderr
    assert said in last_line(refused)
    assert "a worker could not start" in last_line(refused)


def test_with_one_machine_that_lacks_the_model_the_others_do_the_work(
    scan_on: Callable[..., subprocess.CompletedProcess[str]], write_manifest: Write, tmp_path: Path
) -> None:
    path = package_without(tmp_path / "lacking", "the model")
    with ray_nodes(1) as cluster:
        add_node(cluster, env_vars={"PYTHONPATH": str(path)})
        cluster.wait_for_nodes()
        done = scan_on(cluster.address, write_manifest(200), "--shard-rows", 10)
    assert done.returncode == 0, done.stderr
    assert "the demo model is missing from this installation" in done.stderr
    assert "going on with the others" in done.stderr
    assert len(result_rows(tmp_path / "out")) == 200


def test_a_worker_that_runs_out_of_memory_at_its_start_says_which_option_helps(
    scan_on: Callable[..., subprocess.CompletedProcess[str]], write_manifest: Write
) -> None:
    # Ray's own guard, told that nearly no memory is left.
    little = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "50"}
    with ray_nodes(1, num_cpus=0) as cluster:
        add_node(cluster, env_vars=little)
        cluster.wait_for_nodes()
        refused = scan_on(cluster.address, write_manifest(3))
    assert refused.returncode == 1, refused.stderr
    assert "ran out of memory: reserve more for each with --worker-memory" in last_line(refused)


def test_a_shard_that_always_fails_is_reported_and_the_rest_is_done_and_later_it_alone(
    scan_on: Callable[..., subprocess.CompletedProcess[str]], write_manifest: Write, tmp_path: Path
) -> None:
    paths = [
        write_manifest(manifest_table(20), f"many/{name}.parquet", compression="none")
        for name in "abc"
    ]
    whole = paths[1].read_bytes()
    # Its footer is as it was, what it says of the content is not true any more.
    paths[1].write_bytes(whole[:4] + b"\xff" * 400 + whole[404:])
    options = ("--shard-rows", 20, "--shard-attempts", 2)
    with ray_nodes(1) as cluster:
        first = scan_on(cluster.address, tmp_path / "many", *options)
        committed = sorted(path.name for path in result_files(tmp_path / "out"))
        summary = (tmp_path / "out" / "summary.json").exists()
        paths[1].write_bytes(whole)
        second = scan_on(cluster.address, tmp_path / "many", *options)
    assert first.returncode == 1
    assert committed == ["part-000000.parquet", "part-000002.parquet"]
    assert not summary
    assert "shard 1 failed on" in first.stderr
    assert "given up after 2 attempts: shard 1" in first.stderr
    said = last_line(first)
    assert "1 of 3 shards could not be scanned, all others are committed" in said
    assert f"shard 1 (row 0 of {paths[1]} to row 19)" in said
    assert second.returncode == 0, second.stderr
    assert "60 rows, 40 of them done before" in second.stderr
    assert len(result_rows(tmp_path / "out")) == 60


def test_a_worker_that_no_machine_has_room_for_is_refused_with_the_numbers(
    scan_on: Callable[..., subprocess.CompletedProcess[str]], write_manifest: Write
) -> None:
    with ray_nodes(1) as cluster:
        options = ("--worker-cpus", 64, "--worker-resources", "fast_disk=2", "--worker-start", 3)
        refused = scan_on(cluster.address, write_manifest(3), *options)
    assert refused.returncode == 1
    assert "0 workers of 1 after 3 s: a worker asks for 64 CPU, 2 fast_disk" in last_line(refused)
    assert "1 CPU, 0 fast_disk" in last_line(refused)
