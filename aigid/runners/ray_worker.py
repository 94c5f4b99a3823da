"""What runs in a worker process of a Ray cluster: whole shards, by the function that the local scan uses."""

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

from aigid import __version__
from aigid.errors import UsageError
from aigid.results import ResultsFolder, open_results
from aigid.scan_job import ScanShards, ShardJob
from aigid.shards import Shard
from aigid.storage import exists, locate

_KEPT_LINES = 20


@dataclass(frozen=True)
class WorkOrder:
    """What a worker is told at its start: the job, where results go, and how to find out that it sees what others see.

    `token` is what the results folder is held with; `folder` is what relative paths are relative to.
    """

    job: ShardJob
    out: str
    token: str
    folder: str
    first_file: str
    threads: int
    version: str = __version__


@dataclass(frozen=True)
class ShardAnswer:
    """A committed shard: its rows, how many of them have an error, and the seconds that it took."""

    rows: int
    errors: int
    seconds: float


@dataclass
class _Given:
    """A shard that the driver gave, how much of it is done, and what waits for its end."""

    shard: Shard
    done: "Future[ShardAnswer]" = field(default_factory=Future)
    rows: int = 0
    errors: int = 0


@dataclass(frozen=True)
class WorkerState:
    """Rows done since the worker's start, what of which shard (rows, errors) is done, and lines for people.

    The first of the shards is the one that it is at, for `seconds` now.
    """

    rows: int
    shards: dict[int, tuple[int, int]]
    seconds: float
    lines: list[str] = field(default_factory=list)


class ShardWorker:
    """Scans and commits shards; a Ray actor, whose methods are called from several threads.

    One thread scans, the next shard right after the one before, as the local scan does: two at a time would only be in each
    other's way, at the interpreter's lock.
    """

    def __init__(self) -> None:
        """Nothing is loaded yet: what fails then is told by `start`, not by a dead process."""
        self._exit = ExitStack()
        self._given: SimpleQueue[_Given] = SimpleQueue()
        self._taken: deque[_Given] = deque()
        self._rows = 0
        self._since = time.monotonic()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def node(self) -> str:
        """Ray's id of the machine that it is on."""
        return str(ray.get_runtime_context().get_node_id())

    def start(self, order: WorkOrder) -> int:
        """Get ready; gives the process id. Raises AigidError where this machine is not fit for the work, and why."""
        if order.version != __version__:
            raise UsageError(
                f"has aigid {__version__}, but the scan was started with {order.version}: install the same"
            )
        if Path(order.folder).is_dir():
            os.chdir(order.folder)
        results = open_results(order.out)
        if not results.is_held_with(order.token):
            raise UsageError(
                f"--out {order.out}: is another folder here than where the scan was started: give one that all machines "
                "share, or an object store"
            )
        first = locate(order.first_file)
        if first.is_local and not exists(first):
            raise UsageError(
                f"{order.first_file}: no such file here: put the manifest where all machines see it"
            )
        scan = self._exit.enter_context(order.job.open(order.threads, self._lines.append))
        threading.Thread(target=self._run, args=(scan, results), name="shards", daemon=True).start()
        return os.getpid()

    def scan(self, shard: Shard) -> ShardAnswer:
        """Scan and commit a shard."""
        given = _Given(shard)
        self._given.put(given)
        return given.done.result()

    def state(self) -> WorkerState:
        """How far it is; lines are given once."""
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        shards = {one.shard.index: (one.rows, one.errors) for one in list(self._taken)}
        return WorkerState(self._rows, shards, time.monotonic() - self._since, lines)

    def _run(self, scan: ScanShards, results: ResultsFolder) -> None:
        while True:
            try:
                with closing(scan(self._next_shards(), self._on_batch)) as scanned:
                    for shard, table in scanned:
                        results.commit(shard.index, table)
                        one, seconds = self._taken.popleft(), time.monotonic() - self._since
                        self._since += seconds
                        one.done.set_result(ShardAnswer(one.rows, one.errors, seconds))
            except Exception as error:  # noqa: BLE001 - whatever it is, the driver is told, and decides
                # Answers come in the order of shards: what failed is the first that has none.
                self._taken.popleft().done.set_exception(error)
                for one in self._taken:
                    self._given.put(_Given(one.shard, one.done))
                self._taken.clear()

    def _next_shards(self) -> Iterator[Shard]:
        """Wait for a shard; then give those that follow at once."""
        given = self._given.get()
        self._since = time.monotonic()
        while True:
            self._taken.append(given)
            yield given.shard
            try:
                given = self._given.get_nowait()
            except Empty:
                return

    def _on_batch(self, rows: int, errors: int) -> None:
        first = self._taken[0]
        first.rows += rows
        first.errors += errors
        self._rows += rows
