"""Run a scan's shards on a Ray cluster: workers with whole shards in hand; the driver keeps the books.

Ray gives placement, processes on other machines and word of their end. The window of shards in flight, new attempts and
new workers for dead ones are kept here: so a shard that brings its worker down is told from one whose machine went away, and
is given up while the rest goes on.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from aigid.config import RayConfig
from aigid.errors import AigidError, ClusterError, ResultsError, ServerError
from aigid.progress import ClusterState, NodeState, OnMessage, ScanProgress
from aigid.runners.ray_cluster import no_room, node_names, workers_that_fit
from aigid.runners.ray_pool import (
    Done,
    Event,
    Failed,
    NotStarted,
    Started,
    Told,
    Worker,
    WorkerPool,
)
from aigid.runners.ray_worker import WorkOrder
from aigid.runners.shard_queue import ShardFailure, ShardQueue
from aigid.shards import PlanTotals, Shard

# The second follows at once, when the first is read to its end but not yet scored and committed.
SHARDS_IN_HAND = 2
_LOOK_EVERY_S = 1.0
_COUNT_ROOM_EVERY_S = 10.0
_SAY_WAITING_AFTER_S = 15.0
_MOST_FAILURES_IN_A_ROW = 10
_MOST_BAD_STARTS = 5
# When a shard is slow: by so much slower than others, where there are a few of these.
_SLOW_FACTOR, _SLOW_FROM_S, _FEW = 3.0, 60.0, 3


def run_ray(
    order: WorkOrder,
    config: RayConfig,
    shards: Iterator[Shard],
    extent: PlanTotals,
    progress: ScanProgress,
    on_message: OnMessage,
) -> list[ShardFailure]:
    """Scan and commit each shard on the cluster that this process is connected to; gives the shards that were given up.

    `extent` is of the whole plan, for those who look on; `shards` are what is missing of it.

    Raises ClusterError where no worker can start, and AigidError where nothing is left to be hoped for: servers gone,
    results that cannot be written, one shard after the other failing. What was committed stays.
    """
    pool = WorkerPool(config, order)
    try:
        run = _Run(
            pool, config, ShardQueue(shards, config.shard_attempts), extent, (progress, on_message)
        )
        while run.unfinished():
            run.staff()
            run.hand_out()
            run.look()
            for event in pool.events(_LOOK_EVERY_S / 2):
                run.take(event)
        return run.failures
    finally:
        pool.close()


class _Run:
    """The books of a run."""

    def __init__(
        self,
        pool: WorkerPool,
        config: RayConfig,
        queue: ShardQueue,
        extent: PlanTotals,
        to: tuple[ScanProgress, OnMessage],
    ) -> None:
        self._pool, self._config, self._queue, self._extent = pool, config, queue, extent
        self._progress, self._notify = to
        self.failures: list[ShardFailure] = []
        self._told: dict[int, tuple[int, int]] = {}
        self._seconds: list[float] = []
        self._failed_in_a_row = 0
        self._bad_starts = 0
        self._begun = False
        self._said_waiting = False
        self._slow: set[int] = set()
        self._started_at = time.monotonic()
        self._looked_at = self._counted_at = -_COUNT_ROOM_EVERY_S
        self._room = 0
        self._names: dict[str, str] = {}

    def unfinished(self) -> bool:
        """Whether there is something left to do."""
        return bool(self._queue) or any(worker.in_hand for worker in self._pool.workers)

    def staff(self) -> None:
        """Have as many workers as there is work and room for; end those that have nothing to do any more."""
        now = time.monotonic()
        if now - self._counted_at >= _COUNT_ROOM_EVERY_S:
            self._counted_at, self._room = (
                now,
                max(self._config.min_workers, workers_that_fit(self._config)),
            )
            self._names = node_names()
        left = (
            self._extent.shards - self._extent.done_shards - len(self._seconds) - len(self.failures)
        )
        wanted = min((self._config.max_workers or self._room) - self._bad_starts, left)
        while self._queue and len(self._pool.workers) < wanted:
            self._pool.add()
        if not self._queue:
            for worker in [worker for worker in self._pool.workers if not worker.in_hand]:
                self._pool.remove(worker)
        if not self._begun:
            self._await_workers(now)

    def _await_workers(self, now: float) -> None:
        ready, waited_s = len(self._pool.ready), now - self._started_at
        if ready >= self._config.min_workers:
            self._begun = True
        elif waited_s > self._config.start_within_s:
            raise ClusterError(
                f"{ready} workers of {self._config.min_workers} after {waited_s:.0f} s: {no_room(self._config)}"
            )
        elif waited_s > _SAY_WAITING_AFTER_S and not self._said_waiting:
            self._said_waiting = True
            self._notify(
                f"waiting for workers, {ready} of {self._config.min_workers} are ready: {no_room(self._config)}"
            )

    def hand_out(self) -> None:
        """Give shards to the workers that have room in their hands; one that failed before gets a worker of its own."""
        if not self._begun:
            return
        for in_hand in range(SHARDS_IN_HAND):
            for worker in self._pool.ready:
                if len(worker.in_hand) != in_hand or any(
                    map(self._queue.tried, worker.in_hand.values())
                ):
                    continue
                shard = self._queue.take(alone=not in_hand)
                if shard is not None:
                    self._pool.give(worker, shard)

    def take(self, event: Event) -> None:
        """Enter what happened."""
        match event:
            case Started():
                self._bad_starts = max(0, self._bad_starts - 1)
            case NotStarted(worker, fault):
                self._bad_start(worker, fault)
            case Told(worker, state):
                for index, (rows, errors) in state.shards.items():
                    if index in worker.in_hand:
                        self._advance(index, rows, errors)
                for line in state.lines:
                    self._notify(f"{self._name(worker)}: {line}")
                self._say_slow(worker, next(iter(state.shards), None), state.seconds)
            case Done(_, shard, answer):
                self._advance(shard.index, answer.rows, answer.errors)
                del self._told[shard.index]
                self._seconds.append(answer.seconds)
                self._failed_in_a_row = 0
            case Failed(worker, shard, fault):
                self._fail(worker, shard, fault)

    def look(self) -> None:
        """Once a second: ask the workers how far they are, and show it."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        self._pool.look()
        self._progress.cluster(self._state())

    def _bad_start(self, worker: Worker, fault: AigidError) -> None:
        self._bad_starts += 1
        line = (
            f"a worker could not start{f' on {self._name(worker)}' if worker.node else ''}: {fault}"
        )
        if not self._pool.ready and self._bad_starts >= min(
            _MOST_BAD_STARTS, self._config.max_workers or self._room
        ):
            raise ClusterError(f"{line}; no other is left")
        self._notify(f"{line}; going on with the others")

    def _fail(self, worker: Worker, shard: Shard, fault: AigidError) -> None:
        self._advance(shard.index, 0, 0)
        del self._told[shard.index]
        if isinstance(fault, ServerError):
            raise fault
        failure = self._queue.failed(shard, f"on {self._name(worker)}: {fault}")
        if failure is None:
            self._notify(
                f"shard {shard.index} failed on {self._name(worker)}: {fault}; it will be tried again"
            )
            return
        if isinstance(fault, ResultsError):
            raise fault
        self.failures.append(failure)
        self._failed_in_a_row += 1
        self._notify(f"given up after {self._config.shard_attempts} attempts: {failure}")
        if self._failed_in_a_row >= _MOST_FAILURES_IN_A_ROW:
            raise AigidError(
                f"{self._failed_in_a_row} shards in a row failed for good, the last: {failure}; mend it and run again"
            )

    def _advance(self, index: int, rows: int, errors: int) -> None:
        """Tell of the rows of a shard that are new, or less, where its attempt was lost."""
        rows_before, errors_before = self._told.get(index, (0, 0))
        self._told[index] = (rows, errors)
        if (rows, errors) != (rows_before, errors_before):
            self._progress.advance(rows - rows_before, errors - errors_before)

    def _say_slow(self, worker: Worker, index: int | None, seconds: float) -> None:
        """Point out a shard that takes much longer than others, once."""
        if index not in worker.in_hand or index in self._slow or len(self._seconds) < _FEW:
            return
        usual = median(self._seconds)
        if seconds > max(_SLOW_FROM_S, _SLOW_FACTOR * usual):
            self._slow.add(index)
            self._notify(
                f"shard {index} is slow: {seconds:.0f} s so far on {self._name(worker)}, others take {usual:.0f} s"
            )

    def _state(self) -> ClusterState:
        nodes: dict[str, list[float]] = defaultdict(list)
        for worker in self._pool.ready:
            nodes[self._name(worker)].append(worker.rows_per_s())
        running = [index for worker in self._pool.workers for index in worker.in_hand]
        return ClusterState(
            total=self._extent.shards,
            done=self._extent.done_shards + len(self._seconds),
            running=len(running),
            failed=len(self.failures),
            slow=tuple(sorted(self._slow.intersection(running))),
            nodes={
                name: NodeState(len(rates), sum(rates)) for name, rates in sorted(nodes.items())
            },
        )

    def _name(self, worker: Worker) -> str:
        if worker.node is None:
            return "an unknown machine"
        if worker.node not in self._names:
            self._names = node_names()
        return self._names.get(worker.node, worker.node[:6])
