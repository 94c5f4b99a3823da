"""A worker in this process: what it refuses at its start, and that shards end independently."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.ray_jobs import BATCHES, StandInJob
from support.scan_process import wait_until

from aigid.errors import AigidError, ResultsError, UsageError
from aigid.results import open_results
from aigid.runners.ray_worker import ShardWorker, WorkOrder
from aigid.shards import Shard
from aigid.sources import ManifestFile, Segment
from aigid.version import __version__

ROWS = 8
Ordered = Callable[..., WorkOrder]


@pytest.fixture
def order(tmp_path: Path) -> Iterator[Ordered]:
    """Makes the order of a scan into `out`, a folder that is held while the test runs."""
    (tmp_path / "m.parquet").touch()
    # A worker has a process of its own, and changes its folder and its environment.
    before, environment = Path.cwd(), dict(os.environ)
    with open_results(str(tmp_path / "out")).open() as token:
        yield lambda job=StandInJob(), **other: replace(
            WorkOrder(job, str(tmp_path / "out"), token, str(tmp_path), "m.parquet", 1), **other
        )
    os.chdir(before)
    os.environ.clear()
    os.environ.update(environment)


def test_a_worker_asks_the_servers_that_the_driver_asks(
    order: Ordered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://driver.example")
    ordered = order()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://other.example")
    ShardWorker().start(ordered)
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "http://driver.example"


def shards(count: int) -> list[Shard]:
    file = ManifestFile("m.parquet", 10, (count * ROWS,), "")
    return [
        Shard(index, (Segment(file, index * ROWS, (index + 1) * ROWS),)) for index in range(count)
    ]


def committed(tmp_path: Path) -> set[int]:
    return open_results(str(tmp_path / "out")).committed()


def test_another_version_is_refused_with_both(order: Ordered) -> None:
    message = f"this node has aigid {__version__}, but the scan was started with 0.0.1: install"
    with pytest.raises(UsageError, match=message):
        ShardWorker().start(order(version="0.0.1"))


def test_a_results_folder_that_is_not_the_driver_s_is_refused(
    order: Ordered, tmp_path: Path
) -> None:
    message = (
        "`out` .*: this node has another folder there than the driver: give one that all nodes"
    )
    (tmp_path / "local_disk").mkdir()
    for other in (
        {"out": str(tmp_path / "gone")},
        {"out": str(tmp_path / "local_disk")},
        {"token": "another scan's"},
    ):
        with pytest.raises(UsageError, match=message):
            ShardWorker().start(order(**other))


def test_a_manifest_that_this_node_lacks_is_refused(order: Ordered) -> None:
    message = r"gone\.parquet: no such file on this node: put the manifest where all nodes can read"
    with pytest.raises(UsageError, match=message):
        ShardWorker().start(order(first_file="gone.parquet"))


def test_absolute_paths_need_no_current_folder_of_the_driver(
    order: Ordered, tmp_path: Path
) -> None:
    assert (
        ShardWorker().start(order(folder="/no/such/folder", first_file=str(tmp_path / "m.parquet")))
        == os.getpid()
    )


def test_shards_given_at_the_same_time_are_scanned_one_after_the_other(
    order: Ordered, tmp_path: Path
) -> None:
    worker = ShardWorker()
    worker.start(order(StandInJob(0.1)))
    began = time.monotonic()
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(worker.scan, shards(4)))
    elapsed = time.monotonic() - began
    assert [(answer.done.rows, answer.done.failed) for answer in answers] == [(ROWS, BATCHES)] * 4
    assert all(answer.seconds >= 0.1 for answer in answers)
    # At the same time, their seconds would overlap.
    assert sum(answer.seconds for answer in answers) <= elapsed
    assert committed(tmp_path) == {0, 1, 2, 3}
    assert worker.state().rows == 4 * ROWS
    assert worker.state().shards == {}


def test_a_shard_that_fails_leaves_the_others(order: Ordered, tmp_path: Path) -> None:
    worker = ShardWorker()
    worker.start(order(StandInJob(0.05, ((1, "fail"), (4, "bug")))))
    with ThreadPoolExecutor(6) as callers:
        calls = [callers.submit(worker.scan, shard) for shard in shards(6)]
    assert isinstance(calls[1].exception(), AigidError)
    assert isinstance(calls[4].exception(), ZeroDivisionError)
    assert [call.result().done.rows for index, call in enumerate(calls) if index not in (1, 4)] == [
        ROWS
    ] * 4
    assert committed(tmp_path) == {0, 2, 3, 5}


def test_results_that_cannot_be_written_fail_the_shard_and_the_worker_goes_on(
    order: Ordered, tmp_path: Path
) -> None:
    worker = ShardWorker()
    worker.start(order())
    first, second = shards(2)
    (tmp_path / "out" / "detections" / "part-000000.parquet").mkdir(parents=True)
    with pytest.raises(ResultsError, match=r"cannot write .*part-000000\.parquet"):
        worker.scan(first)
    assert worker.scan(second).done.rows == ROWS


def test_the_state_tells_the_current_shard_its_seconds_and_its_rows(order: Ordered) -> None:
    worker = ShardWorker()
    worker.start(order(StandInJob(1.0)))
    caller = threading.Thread(target=worker.scan, args=(shards(1)[0],))
    caller.start()
    wait_until(lambda: worker.state().rows == ROWS // 2, "half of the rows are not reported")
    state = worker.state()
    (done,) = state.shards.values()
    assert (done.rows, done.failed) == (ROWS // 2, BATCHES // 2)
    assert 0.4 < state.seconds < 1.1
    caller.join()


def test_messages_are_given_once(order: Ordered) -> None:
    worker = ShardWorker()
    worker.start(order(StandInJob(message="server a:8001 does not answer")))
    assert worker.state().messages == ["server a:8001 does not answer"]
    assert worker.state().messages == []
