"""The worker process of a scan on a Ray cluster: scans whole shards, as the local runner does."""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

import ray

from aigid.errors import UsageError
from aigid.progress import RowsDone
from aigid.results import ResultsFolder, open_results
from aigid.scan_job import ScanShards, ShardJob
from aigid.shards import Shard
from aigid.storage import endpoint_variables, exists, locate
from aigid.version import __version__

_KEPT_MESSAGES = 20


@dataclass(frozen=True)
class WorkOrder:
    """What a worker gets at its start: the job, and how to check that it sees the same files.

    Results go to `out`, a folder that the scan holds with `token`. Relative paths are relative to
    `folder`; `first_file` is a file of the manifest. `servers` are the environment variables that
    name the servers of object stores, as they are where the order is made.
    """

    job: ShardJob
    out: str
    token: str
    folder: str
    first_file: str
    threads: int
    version: str = __version__
    servers: dict[str, str] = field(default_factory=endpoint_variables)


@dataclass(frozen=True)
class ShardAnswer:
    """A committed shard: what was done, and the seconds that it took, `commit_s` to commit it."""

    done: RowsDone
    seconds: float
    commit_s: float


@dataclass
class _Assignment:
    """A shard given to this worker, what is done of it so far, and the answer for the driver."""

    shard: Shard
    answer: "Future[ShardAnswer]" = field(default_factory=Future)
    done: RowsDone = RowsDone()


@dataclass(frozen=True)
class WorkerState:
    """The progress of a worker, and its new messages.

    `rows` counts from the worker's start. `shards` maps the index of each shard in hand to what is
    done of it; the first is being scanned, since `seconds` seconds.
    """

    rows: int
    shards: dict[int, RowsDone]
    seconds: float
    messages: list[str] = field(default_factory=list)


class ShardWorker:
    """A Ray actor that scans and commits shards. Several threads call its methods.

    One thread scans the shards one right after the other, as the local runner does: two shards at
    the same time would compete for the interpreter's lock.
    """

    def __init__(self) -> None:
        """Load nothing yet: `start` can report a failure, a constructor would kill the process."""
        self._exit = ExitStack()
        self._assigned: SimpleQueue[_Assignment] = SimpleQueue()
        self._taken: deque[_Assignment] = deque()
        self._rows = 0
        self._since = time.monotonic()
        self._messages: deque[str] = deque(maxlen=_KEPT_MESSAGES)

    def node(self) -> str:
        """Return Ray's id of this worker's node."""
        return str(ray.get_runtime_context().get_node_id())

    def start(self, order: WorkOrder) -> int:
        """Load the model and return the process id.

        Raises AigidError with the reason if this node cannot do the work.
        """
        # Otherwise results could go to another server, which this host's settings name.
        os.environ.update(order.servers)
        _check_node(order)
        scan = self._exit.enter_context(order.job.open(order.threads, self._messages.append))
        results = open_results(order.out)
        threading.Thread(target=self._run, args=(scan, results), name="shards", daemon=True).start()
        return os.getpid()

    def scan(self, shard: Shard) -> ShardAnswer:
        """Scan and commit a shard."""
        assignment = _Assignment(shard)
        self._assigned.put(assignment)
        return assignment.answer.result()

    def state(self) -> WorkerState:
        """Return the progress, and the messages since the last call."""
        messages = [self._messages.popleft() for _ in range(len(self._messages))]
        shards = {one.shard.index: one.done for one in list(self._taken)}
        return WorkerState(self._rows, shards, time.monotonic() - self._since, messages)

    def _run(self, scan: ScanShards, results: ResultsFolder) -> None:
        while True:
            try:
                with closing(scan(self._next_shards(), self._on_batch)) as scanned:
                    for shard in scanned:
                        began = time.perf_counter()
                        results.commit(shard.shard.index, shard.table)
                        done, commit_s = shard.done, time.perf_counter() - began
                        del shard
                        self._finish_first(done, commit_s)
            except Exception as error:  # noqa: BLE001 - the driver gets any error, and decides
                # Answers come in the order of shards: the first without an answer has failed.
                self._taken.popleft().answer.set_exception(error)
                for one in self._taken:
                    self._assigned.put(_Assignment(one.shard, one.answer))
                self._taken.clear()

    def _finish_first(self, done: RowsDone, commit_s: float) -> None:
        one, seconds = self._taken.popleft(), time.monotonic() - self._since
        self._since += seconds
        one.answer.set_result(ShardAnswer(done, seconds, commit_s))

    def _next_shards(self) -> Iterator[Shard]:
        """Wait for a shard, then yield it and all that are already there."""
        assignment = self._assigned.get()
        self._since = time.monotonic()
        while True:
            self._taken.append(assignment)
            yield assignment.shard
            try:
                assignment = self._assigned.get_nowait()
            except Empty:
                return

    def _on_batch(self, done: RowsDone) -> None:
        self._taken[0].done += done
        self._rows += done.rows


def _check_node(order: WorkOrder) -> None:
    """Raise UsageError unless this node has the driver's aigid, results folder and manifest.

    Changes the current folder to the driver's if this node has it.
    """
    if order.version != __version__:
        raise UsageError(
            f"this node has aigid {__version__}, but the scan was started with {order.version}: "
            "install the same version"
        )
    if Path(order.folder).is_dir():
        os.chdir(order.folder)
    if not open_results(order.out).is_held_with(order.token):
        raise UsageError(
            f"`out` {order.out}: this node has another folder there than the driver: give one that "
            "all nodes share, or an object store"
        )
    first = locate(order.first_file)
    if first.is_local and not exists(first):
        raise UsageError(
            f"{order.first_file}: no such file on this node: put the manifest where all nodes can "
            "read it"
        )
