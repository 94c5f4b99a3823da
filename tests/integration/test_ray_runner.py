"""How a run on a cluster is kept going, and when it ends: real workers, shards that cost nothing or go wrong."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster
from support.ray_cluster import add_node, ray_nodes, shard_workers
from support.ray_jobs import BATCHES, StandInJob
from support.scan_process import wait_until

import aigid.runners.ray
from aigid.config import RayConfig
from aigid.errors import AigidError, ClusterError, ServerError
from aigid.manifest import Segment
from aigid.manifest_files import ManifestFile
from aigid.progress import ClusterState
from aigid.results import open_results
from aigid.runners.ray import run_ray
from aigid.runners.ray_cluster import ray_cluster
from aigid.runners.ray_worker import WorkOrder
from aigid.runners.shard_queue import ShardFailure
from aigid.shards import PlanTotals, Shard

pytestmark = pytest.mark.integration

ROWS = 8


class Notes:
    """What a run tells: rows and errors added up, states, lines."""

    def __init__(self) -> None:
        self.rows = self.errors = 0
        self.states: list[ClusterState] = []
        self.lines: list[str] = []

    def start(self, total_rows: int, done_rows: int) -> None:
        raise AssertionError("whoever plans the scan says this")

    def advance(self, rows: int, errors: int) -> None:
        self.rows += rows
        self.errors += errors
        assert self.rows >= 0

    def cluster(self, state: ClusterState) -> None:
        self.states.append(state)


Run = Callable[..., list[ShardFailure]]


@pytest.fixture(scope="module", autouse=True)
def connected() -> Iterator[Cluster]:
    """One node with two cores, to which this process is connected as a scan is."""
    with ray_nodes(1, num_cpus=2) as cluster, pytest.MonkeyPatch.context() as patch:
        # Workers find the jobs of these tests as they find aigid.
        patch.setenv("RAY_ADDRESS", cluster.address)
        ray.init(
            cluster.address,
            runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}},
            log_to_driver=False,
            logging_level="CRITICAL",
        )
        try:
            with ray_cluster(RayConfig()):
                yield cluster
        finally:
            ray.shutdown()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def run(tmp_path: Path, notes: Notes) -> Run:
    """Runs so many shards of a job, and gives those that were given up."""

    def call(job: StandInJob, shards: int, config: RayConfig = RayConfig()) -> list[ShardFailure]:
        file = ManifestFile(str(tmp_path / "m.parquet"), 10, (shards * ROWS,), "")
        Path(file.path).touch()
        plan = [
            Shard(index, (Segment(file, index * ROWS, (index + 1) * ROWS),))
            for index in range(shards)
        ]
        results = open_results(str(tmp_path / "out"))
        with results.open() as token:
            order = WorkOrder(
                job, str(tmp_path / "out"), token, str(tmp_path), file.path, config.worker_cpus
            )
            return run_ray(
                order, config, iter(plan), PlanTotals.of(plan, ()), notes, notes.lines.append
            )

    return call


def committed(tmp_path: Path) -> set[int]:
    return open_results(str(tmp_path / "out")).committed()


def test_every_shard_is_committed_and_told_of(run: Run, notes: Notes, tmp_path: Path) -> None:
    assert run(StandInJob(0.25), 60, RayConfig(min_workers=2)) == []
    assert committed(tmp_path) == set(range(60))
    assert pq.read_table(tmp_path / "out" / "detections" / "part-000007.parquet").column(
        "row"
    ).to_pylist() == list(range(56, 64))
    assert (notes.rows, notes.errors) == (60 * ROWS, 60 * BATCHES)
    last = notes.states[-1]
    assert (last.total, last.failed) == (60, 0)
    assert 3 <= max(state.running for state in notes.states) <= 2 * 2
    assert [state.done for state in notes.states] == sorted(state.done for state in notes.states)
    # One worker may be done, and gone, before the last look.
    (name,) = {name for state in notes.states for name in state.nodes}
    nodes = [state.nodes[name] for state in notes.states if state.nodes]
    assert max(node.workers for node in nodes) == 2
    assert 0 < max(node.rows_per_s for node in nodes) < 2 * 2 * ROWS / 0.25
    wait_until(lambda: not shard_workers(), "workers are left")


def test_a_shard_that_brings_its_worker_down_is_given_up_and_no_other_with_it(
    run: Run, notes: Notes, tmp_path: Path
) -> None:
    (failure,) = run(StandInJob(0.05, ((5, "crash"),)), 30, RayConfig(shard_attempts=2))
    assert failure.shard.index == 5
    assert "died: killed, out of memory (--worker-memory reserves it) or crashed" in failure.reason
    assert committed(tmp_path) == set(range(30)) - {5}
    assert notes.rows == 29 * ROWS
    assert sum("given up" in line for line in notes.lines) == 1


def test_errors_of_ours_and_of_nobody_are_told_as_they_are(
    run: Run, notes: Notes, tmp_path: Path
) -> None:
    failures = run(StandInJob(0.01, ((2, "fail"), (7, "bug"))), 12, RayConfig(shard_attempts=1))
    said = {failure.shard.index: failure.reason.split(": ", 1)[1] for failure in failures}
    assert said == {2: "row 16 is cursed", 7: "ZeroDivisionError: nobody thought of that"}
    assert committed(tmp_path) == set(range(12)) - {2, 7}


def test_servers_that_are_gone_end_the_run_at_once(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no server answers"):
        run(StandInJob(0.2, ((12, "servers gone"),)), 100)
    assert {0, 1} <= committed(tmp_path) < set(range(100))
    wait_until(lambda: not shard_workers(), "workers are left")


def test_one_failure_after_the_other_ends_the_run(run: Run, notes: Notes) -> None:
    fates = tuple((index, "fail") for index in range(3, 100))
    with pytest.raises(AigidError, match="10 shards in a row failed for good, the last: shard 1"):
        run(StandInJob(0.01, fates), 100, RayConfig(shard_attempts=1))


def test_a_slow_shard_is_pointed_out_with_its_machine(
    run: Run, notes: Notes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(aigid.runners.ray, "_SLOW_FROM_S", 2.0)
    assert run(StandInJob(0.02, ((1, "slow"),)), 20) == []
    slow = [line for line in notes.lines if "is slow" in line]
    assert len(slow) == 1
    assert slow[0].startswith("shard 1 is slow: ")
    assert any(state.slow == (1,) for state in notes.states)
    assert committed(tmp_path) == set(range(20))


def test_what_a_worker_says_is_said_with_its_machine(run: Run, notes: Notes) -> None:
    run(StandInJob(1.0, say="server a:8001 does not answer"), 8, RayConfig(max_workers=1))
    said = [
        line.split(": ", 1)[1] for line in notes.lines if not line.startswith("waiting for workers")
    ]
    assert said == ["server a:8001 does not answer"]


def test_it_begins_when_so_many_workers_are_there_or_not_at_all(
    run: Run, notes: Notes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(aigid.runners.ray, "_SAY_WAITING_AFTER_S", 1.0)
    with pytest.raises(
        ClusterError,
        match="2 workers of 3 after [4-9] s: a worker asks for 1 CPU; the cluster's machines",
    ):
        run(StandInJob(), 10, RayConfig(min_workers=3, start_within_s=4))
    assert committed(tmp_path) == set()
    assert sum(line.startswith("waiting for workers, ") for line in notes.lines) == 1


def test_machines_that_are_added_later_get_workers_too(
    connected: Cluster, run: Run, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aigid.runners.ray, "_COUNT_ROOM_EVERY_S", 1.0)
    added = []

    def on_lines(state: ClusterState) -> None:
        notes.states.append(state)
        if state.done > 3 and not added:
            added.append(add_node(connected))

    notes.cluster = on_lines  # type: ignore[method-assign]
    try:
        assert run(StandInJob(0.5), 60) == []
    finally:
        for node in added:
            connected.remove_node(node)
    assert {sum(node.workers for node in state.nodes.values()) for state in notes.states} >= {2, 3}


def test_results_of_two_attempts_at_a_shard_are_one_whole_file(run: Run, tmp_path: Path) -> None:
    started = time.monotonic()
    assert run(StandInJob(0.3, ((2, "crash"),)), 8, RayConfig(shard_attempts=3))[0].shard.index == 2
    assert time.monotonic() - started > 2 + 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "detections"]
    assert sorted(path.name for path in (tmp_path / "out" / "detections").iterdir()) == [
        f"part-{index:06d}.parquet" for index in range(8) if index != 2
    ]
