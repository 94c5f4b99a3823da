"""How a run on a cluster goes on and ends: real workers, shards that cost nothing or go wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from support.ray_cluster import RayNodes, ray_nodes
from support.ray_jobs import BATCHES, StandInJob
from support.scan_process import wait_until

import aigid.runners.ray
import aigid.runners.shard_queue
from aigid.config import RayConfig
from aigid.errors import AigidError, ClusterError, ServerError
from aigid.observe import CommittedShard, ScanBegin, ScanWatch
from aigid.observe.metrics import ScanCollector
from aigid.progress import ClusterState
from aigid.records import ErrorCode
from aigid.results import open_results
from aigid.runners import ShardFailure, WorkOrder, connect_ray, run_ray
from aigid.shards import PlanTotals, Shard
from aigid.sources import ManifestFile, Segment

pytestmark = pytest.mark.integration

ROWS = 8


class Notes:
    """What a run reports: rows and errors in total, states, messages.

    `on_change` is called after each state and message.
    """

    def __init__(self) -> None:
        self.rows = self.errors = 0
        self.states: list[ClusterState] = []
        self.messages: list[str] = []
        self.on_change: Callable[[], None] = lambda: None

    def start(self, total_rows: int, done_rows: int, *, at_least: bool = False) -> None:
        raise AssertionError("the plan's caller reports this")

    def advance(self, rows: int, errors: int) -> None:
        self.rows += rows
        self.errors += errors
        assert self.rows >= 0

    def cluster(self, state: ClusterState) -> None:
        self.states.append(state)
        self.on_change()

    def on_message(self, line: str) -> None:
        self.messages.append(line)
        self.on_change()


Run = Callable[..., list[ShardFailure]]


@pytest.fixture(scope="module", autouse=True)
def nodes() -> Iterator[RayNodes]:
    """One node with two cores, to which this process is connected as a scan is."""
    with ray_nodes(1, num_cpus=2) as nodes:
        ray.init(
            nodes.address,
            # Workers import the jobs of these tests as they import aigid.
            runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}},
            log_to_driver=False,
            logging_level="CRITICAL",
        )
        try:
            with connect_ray(RayConfig()):
                yield nodes
        finally:
            ray.shutdown()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def watches() -> list[ScanWatch]:
    """The watch of each run."""
    return []


@pytest.fixture
def commits() -> list[CommittedShard]:
    """What each run told of its commits."""
    return []


@pytest.fixture
def run(
    tmp_path: Path, notes: Notes, watches: list[ScanWatch], commits: list[CommittedShard]
) -> Run:
    """Runs a number of shards of a job, and returns the shards that were given up."""

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
            totals = PlanTotals.of(plan, ())
            watch = ScanWatch(notes, lambda begin, shard: commits.append(shard))
            watch.begin = ScanBegin(totals, "none", "0" * 64, "fp32")
            watches.append(watch)
            failures = run_ray(order, config, iter(plan), totals, watch, notes.on_message)
            done = shards - len(failures)
            # Each shard of the job says that it was scored for a second, and has these errors. What
            # was done for those that failed in the end does not count.
            assert watch.done.stages.score_s == done
            assert (watch.committed_shards, watch.done.rows) == (done, done * ROWS)
            assert watch.done.errors.get(ErrorCode.MISSING, 0) == done * BATCHES
            return failures

    return call


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The file that ends shards with the fate "held"."""
    return tmp_path / "release"


def committed(tmp_path: Path) -> set[int]:
    return open_results(str(tmp_path / "out")).committed()


def test_each_commit_is_told_with_its_node_and_its_duration(
    run: Run, notes: Notes, watches: list[ScanWatch], commits: list[CommittedShard]
) -> None:
    job = StandInJob(2, ((1, "fail"),))
    assert len(run(job, 3, RayConfig(shard_attempts=1))) == 1
    assert sorted(one.shard.index for one in commits) == [0, 2]
    for one in commits:
        assert one.done.rows == ROWS
        assert one.scan_s > 1
        assert one.commit_s > 0
        assert one.node in {name for state in notes.states for name in state.nodes}
    # What the shard that failed took was counted while it was scanned, and is not again.
    metrics = {
        (sample.name, *sample.labels.values()): sample.value
        for family in ScanCollector(watches[0]).collect()
        for sample in family.samples
    }
    assert metrics["aigid_scan_stage_seconds_total", "score"] >= 2
    assert metrics["aigid_scan_errors_total", "missing"] >= 2 * BATCHES
    assert metrics["aigid_scan_done_shards",] == 2


def test_every_shard_is_committed_and_reported(
    run: Run, notes: Notes, nodes: RayNodes, tmp_path: Path
) -> None:
    assert run(StandInJob(0.2), 40, RayConfig(min_workers=2)) == []
    assert committed(tmp_path) == set(range(40))
    file = tmp_path / "out" / "detections" / "part-000007.parquet"
    assert pq.read_table(file).column("row").to_pylist() == list(range(56, 64))
    assert (notes.rows, notes.errors) == (40 * ROWS, 40 * BATCHES)
    last = notes.states[-1]
    assert (last.total, last.failed) == (40, 0)
    assert 3 <= max(state.running for state in notes.states) <= 2 * 2
    assert [state.done for state in notes.states] == sorted(state.done for state in notes.states)
    # Before the last look a worker may have nothing left to do, and be gone.
    (name,) = {name for state in notes.states for name in state.nodes}
    workers = [state.nodes[name] for state in notes.states if state.nodes]
    assert max(node.workers for node in workers) == 2
    assert 0 < max(node.rows_per_s for node in workers) < 2 * 2 * ROWS / 0.2
    wait_until(lambda: not nodes.shard_workers(), "workers are left")


def test_a_shard_that_kills_its_worker_is_given_up_and_no_other_with_it(
    run: Run, notes: Notes, tmp_path: Path
) -> None:
    (failure,) = run(StandInJob(0.05, ((5, "crash"),)), 30, RayConfig(shard_attempts=2))
    assert failure.shard.index == 5
    assert "died: killed, crashed or out of memory (`worker_memory_gib` res" in failure.reason
    assert committed(tmp_path) == set(range(30)) - {5}
    assert notes.rows == 29 * ROWS
    assert sum("given up" in line for line in notes.messages) == 1


def test_errors_of_aigid_and_others_are_reported_as_they_are(run: Run, tmp_path: Path) -> None:
    failures = run(StandInJob(0.01, ((2, "fail"), (7, "bug"))), 12, RayConfig(shard_attempts=1))
    reasons = {failure.shard.index: failure.reason.split(": ", 1)[1] for failure in failures}
    assert reasons == {2: "row 16 is cursed", 7: "ZeroDivisionError: an unexpected bug"}
    assert committed(tmp_path) == set(range(12)) - {2, 7}


def test_servers_that_are_gone_end_the_run_at_once(
    run: Run, nodes: RayNodes, tmp_path: Path
) -> None:
    with pytest.raises(ServerError, match="no server answers"):
        run(StandInJob(0.1, ((12, "servers gone"),)), 100)
    assert {0, 1} <= committed(tmp_path) < set(range(100))
    wait_until(lambda: not nodes.shard_workers(), "workers are left")


def test_one_failure_after_the_other_ends_the_run(run: Run) -> None:
    fates = tuple((index, "fail") for index in range(3, 100))
    with pytest.raises(AigidError, match="10 shards in a row failed for good, the last one: shard"):
        run(StandInJob(0.01, fates), 100, RayConfig(shard_attempts=1))


def test_a_slow_shard_is_reported_with_its_node(
    run: Run, notes: Notes, release: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def end_it() -> None:
        if notes.states and notes.states[-1].slow:
            release.touch()

    notes.on_change = end_it
    monkeypatch.setattr(aigid.runners.ray, "_SLOW_FROM_S", 1.0)
    assert run(StandInJob(0.02, ((1, "held"),), release=str(release)), 20) == []
    slow = [line for line in notes.messages if "is slow" in line]
    assert len(slow) == 1
    assert slow[0].startswith("shard 1 is slow: ")
    assert any(state.slow == (1,) for state in notes.states)
    assert committed(tmp_path) == set(range(20))


def test_messages_of_a_worker_come_with_its_node(run: Run, notes: Notes, release: Path) -> None:
    def end_it() -> None:
        if any("server a:8001" in line for line in notes.messages):
            release.touch()

    notes.on_change = end_it
    job = StandInJob(
        0.0, ((3, "held"),), message="server a:8001 does not answer", release=str(release)
    )
    assert run(job, 4, RayConfig(max_workers=1)) == []
    lines = [line for line in notes.messages if not line.startswith("waiting for workers")]
    assert [line.split(": ", 1)[1] for line in lines] == ["server a:8001 does not answer"]


def test_fewer_shards_than_min_workers_need_only_as_many_workers(run: Run, notes: Notes) -> None:
    assert run(StandInJob(), 1, RayConfig(min_workers=2, start_within_s=20)) == []
    assert notes.rows == ROWS


def test_a_run_begins_with_min_workers_or_not_at_all(
    run: Run, notes: Notes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(aigid.runners.ray, "_REPORT_WAITING_AFTER_S", 1.0)
    message = (
        r"only [0-2] of 3 workers are ready after [3-9] s: a worker asks for 1 CPU; the "
        "cluster's nodes have"
    )
    with pytest.raises(ClusterError, match=message):
        run(StandInJob(), 10, RayConfig(min_workers=3, start_within_s=3))
    assert committed(tmp_path) == set()
    assert sum(line.startswith("waiting for workers: ") for line in notes.messages) == 1


def test_nodes_that_are_added_later_get_workers_too(
    nodes: RayNodes, run: Run, notes: Notes, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aigid.runners.ray, "_COUNT_ROOM_EVERY_S", 1.0)
    added = []

    def add_or_release() -> None:
        if notes.states[-1].done > 3 and not added:
            added.append(nodes.add())
        if sum(node.workers for node in notes.states[-1].nodes.values()) == 3:
            release.touch()

    notes.on_change = add_or_release
    # Shards for more than two workers are left until the third one has come.
    fates = tuple((index, "held") for index in range(6, 30))
    try:
        assert run(StandInJob(0.01, fates, release=str(release)), 30) == []
    finally:
        for node in added:
            nodes.remove(node)
    assert {sum(node.workers for node in state.nodes.values()) for state in notes.states} >= {2, 3}


def test_a_shard_is_tried_several_times_and_leaves_no_file_when_it_is_given_up(
    run: Run, notes: Notes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(aigid.runners.shard_queue, "_FIRST_PAUSE_S", 0.2)
    (failure,) = run(StandInJob(0.1, ((2, "crash"),)), 8, RayConfig(shard_attempts=3))
    assert failure.shard.index == 2
    assert sum("shard 2 failed on" in line for line in notes.messages) == 2
    assert committed(tmp_path) == set(range(8)) - {2}
    files = sorted(path.name for path in (tmp_path / "out" / "detections").iterdir())
    assert files == [f"part-{index:06d}.parquet" for index in range(8) if index != 2]
