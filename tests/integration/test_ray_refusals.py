"""The messages of a scan on a Ray cluster that cannot be done, or not completely."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._raylet import GcsClient
from support.manifests import manifest_table
from support.ray_cluster import RayNodes, ray_nodes, variables_without_ray
from support.scan_results import result_files, result_rows

import aigid
from aigid.version import __version__

pytestmark = pytest.mark.integration

Write = Callable[..., Path]
Scan = Callable[..., "subprocess.CompletedProcess[str]"]
PACKAGE = Path(aigid.__file__).parent

# `aigid`, where Ray finds no cluster by looking at processes: other tests may have theirs.
WITHOUT_DISCOVERY = """\
import ray._private.services as services
services._find_address_from_flag = lambda flag: set()
services.find_bootstrap_address = lambda folder: None
from aigid.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    """A head without cores; tests add the nodes that they need."""
    with ray_nodes(1, num_cpus=0) as nodes:
        yield nodes


@pytest.fixture
def scan_on(tmp_path: Path) -> Scan:
    """Runs a scan in an empty folder: workers import from the driver's folder too."""

    def run(address: str, manifest: Path, *options: object) -> "subprocess.CompletedProcess[str]":
        words = ["scan", manifest, "--out", tmp_path / "out", "--ray", address, *options]
        program = ["-c", WITHOUT_DISCOVERY] if address == "auto" else ["-m", "aigid"]
        (tmp_path / "cwd").mkdir(exist_ok=True)
        return subprocess.run(
            [sys.executable, *program, *map(str, words)],
            cwd=tmp_path / "cwd",
            env=variables_without_ray(),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def last_line(process: "subprocess.CompletedProcess[str]") -> str:
    return process.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("127.0.0.1:1", 1, "--ray 127.0.0.1:1: nothing listens there"),
        ("no-such-host.invalid:6379", 1, "--ray no-such-host.invalid:6379: nothing listens there"),
        ("auto", 1, "--ray auto: this host is in no running Ray cluster"),
        ("ray://127.0.0.1:10001", 2, "submit it with `ray job submit"),
        ("manifest.parquet", 2, "give HOST:PORT, auto or local"),
    ],
)
def test_an_address_without_a_cluster_is_named(
    scan_on: Scan, write_manifest: Write, address: str, status: int, message: str, tmp_path: Path
) -> None:
    refused = scan_on(address, write_manifest(3))
    assert refused.returncode == status, refused.stderr
    assert message in last_line(refused)
    assert not (tmp_path / "out").exists()


@contextmanager
def cluster_metadata(nodes: RayNodes, **changes: str) -> Iterator[None]:
    """Change what the cluster tells about itself while the block runs."""
    store = GcsClient(address=nodes.address)
    namespaces = (None, b"cluster")
    before = {
        name: store.internal_kv_get(CLUSTER_METADATA_KEY, name) or b"{}" for name in namespaces
    }
    changed = json.dumps(json.loads(before[b"cluster"]) | changes).encode()
    for name in namespaces:
        store.internal_kv_put(CLUSTER_METADATA_KEY, changed, True, name)
    try:
        yield
    finally:
        for name in namespaces:
            store.internal_kv_put(CLUSTER_METADATA_KEY, before[name], True, name)


def test_another_version_of_ray_or_python_is_named_beside_the_own_one(
    nodes: RayNodes, scan_on: Scan, write_manifest: Write
) -> None:
    with cluster_metadata(nodes, ray_version="2.40.1", python_version="3.9.99"):
        refused = scan_on(nodes.address, write_manifest(3))
    assert refused.returncode == 1
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    for text in ("2.40.1", "3.9.99", own, "Version mismatch"):
        assert text in last_line(refused)


def package_without(folder: Path, what: str) -> Path:
    """Make a folder to import aigid from that lacks something, as a node may."""
    if what == "the package":
        (folder / "aigid").mkdir(parents=True)
        (folder / "aigid" / "__init__.py").write_text("")
        return folder
    shutil.copytree(PACKAGE, folder / "aigid", ignore=shutil.ignore_patterns("__pycache__"))
    if what == "the version":
        path = folder / "aigid" / "version.py"
        path.write_text(path.read_text().replace(__version__, "0.0.9"))
    return folder


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        ("the package", "No module named 'aigid.runners': install aigid there, with the extras"),
        ("the model", "the demo model is missing from this installation"),
        (
            "the version",
            f"this node has aigid 0.0.9, but the scan was started with {__version__}: install",
        ),
    ],
)
def test_a_node_that_lacks_something_is_named_and_ends_a_scan_without_other_nodes(
    nodes: RayNodes,
    scan_on: Scan,
    write_manifest: Write,
    lacks: str,
    message: str,
    tmp_path: Path,
) -> None:
    path = package_without(tmp_path / "lacking", lacks)
    with nodes.extra_node(env_vars={"PYTHONPATH": str(path)}):
        refused = scan_on(nodes.address, write_manifest(3))
    assert refused.returncode == 1, refused.stderr
    assert message in last_line(refused)
    assert "a worker could not start" in last_line(refused)


def test_if_one_node_lacks_the_model_the_others_do_the_work(
    nodes: RayNodes, scan_on: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    path = package_without(tmp_path / "lacking", "the model")
    with nodes.extra_node(), nodes.extra_node(env_vars={"PYTHONPATH": str(path)}):
        done = scan_on(nodes.address, write_manifest(200), "--shard-rows", 10)
    assert done.returncode == 0, done.stderr
    assert "the demo model is missing from this installation" in done.stderr
    assert "going on with the others" in done.stderr
    assert len(result_rows(tmp_path / "out")) == 200


def test_a_worker_that_runs_out_of_memory_at_its_start_names_the_options_that_help(
    nodes: RayNodes, scan_on: Scan, write_manifest: Write
) -> None:
    # Ray's own guard, with a limit that is exceeded from the start.
    little = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "50"}
    with nodes.extra_node(env_vars=little):
        refused = scan_on(nodes.address, write_manifest(3))
    assert refused.returncode == 1, refused.stderr
    assert "ran out of memory: reserve more for each worker with --worker-memory" in last_line(
        refused
    )
    assert "or lower --max-workers, --worker-cpus or --batch-size" in last_line(refused)


def test_a_shard_that_always_fails_is_reported_and_can_be_done_alone_later(
    nodes: RayNodes, scan_on: Scan, write_manifest: Write, tmp_path: Path
) -> None:
    paths = [
        write_manifest(manifest_table(20), f"many/{name}.parquet", compression="none")
        for name in "abc"
    ]
    whole = paths[1].read_bytes()
    # The footer stays as it was, but does not fit the content any more.
    paths[1].write_bytes(whole[:4] + b"\xff" * 400 + whole[404:])
    options = ("--shard-rows", 20, "--shard-attempts", 2)
    with nodes.extra_node():
        first = scan_on(nodes.address, tmp_path / "many", *options)
        committed = [path.name for path in result_files(tmp_path / "out")]
        summary = (tmp_path / "out" / "summary.json").exists()
        paths[1].write_bytes(whole)
        second = scan_on(nodes.address, tmp_path / "many", *options)
    assert first.returncode == 1
    assert committed == ["part-000000.parquet", "part-000002.parquet"]
    assert not summary
    assert "shard 1 failed on" in first.stderr
    assert "given up after 2 attempts: shard 1" in first.stderr
    assert "1 of 3 shards could not be scanned" in last_line(first)
    assert f"shard 1 (row 0 of {paths[1]} to row 19)" in last_line(first)
    assert second.returncode == 0, second.stderr
    assert "60 rows, 40 of them done before" in second.stderr
    assert len(result_rows(tmp_path / "out")) == 60


def test_a_worker_that_no_node_has_room_for_is_refused_with_the_numbers(
    nodes: RayNodes, scan_on: Scan, write_manifest: Write
) -> None:
    options = ("--worker-cpus", 64, "--worker-resources", "fast_disk=2", "--worker-start", 3)
    with nodes.extra_node():
        refused = scan_on(nodes.address, write_manifest(3), *options)
    assert refused.returncode == 1
    message = "only 0 of 1 workers are ready after 3 s: a worker asks for 64 CPU, 2 fast_disk"
    assert message in last_line(refused)
    assert "1 CPU, 0 fast_disk" in last_line(refused)
    assert "Lower --worker-cpus, --worker-gpus, --worker-memory" in last_line(refused)
