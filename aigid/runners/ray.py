"""The Ray runner: workers scan whole shards, and the driver keeps track of them.

Ray places processes on other nodes and tells when they end. The driver decides the rest: which
shards are in flight, what is retried, when a dead worker is replaced. So it can tell a shard that
kills its worker from a shard whose node has gone, and give up the first while the scan goes on.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from aigid.config import RayConfig
from aigid.errors import AigidError, ClusterError, ResultsError, ServerError
from aigid.observe import CommittedShard, ScanWatch
from aigid.progress import ClusterState, NodeState, OnMessage, RowsDone
from aigid.runners.ray_cluster import no_room, node_names, workers_that_fit
from aigid.runners.ray_pool import (
    Done,
    Event,
    Failed,
    NotStarted,
    Reported,
    Started,
    Worker,
    WorkerPool,
)
from aigid.runners.ray_worker import WorkOrder
from aigid.runners.shard_queue import ShardFailure, ShardQueue
from aigid.shards import PlanTotals, Shard

# A worker reads its second shard while the end of the first is still being scored and committed.
SHARDS_IN_HAND = 2
_LOOK_EVERY_S = 1.0
_COUNT_ROOM_EVERY_S = 10.0
_REPORT_WAITING_AFTER_S = 15.0
_MOST_FAILURES_IN_A_ROW = 10
_MOST_BAD_STARTS = 5
# A shard is slow if it takes this factor longer than the median, and at least this many seconds.
_SLOW_FACTOR, _SLOW_FROM_S = 3.0, 60.0
_LEAST_SHARDS_FOR_A_MEDIAN = 3


def run_ray(
    order: WorkOrder,
    config: RayConfig,
    shards: Iterator[Shard],
    totals: PlanTotals,
    watch: ScanWatch,
    on_message: OnMessage,
) -> list[ShardFailure]:
    """Scan and commit shards on the cluster that this process is connected to.

    `shards` are those still missing; `totals` describe the whole plan. Returns the shards that were
    given up.

    Raises ClusterError if no worker can start, and AigidError if the scan cannot go on: no server
    answers, results cannot be written, one shard after the other fails. Committed shards stay.
    """
    pool = WorkerPool(config, order)
    try:
        queue = ShardQueue(shards, config.shard_attempts)
        run = _Run(pool, config, queue, totals, (watch, on_message))
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
    """The state of a run: shards, workers, failures, and what was reported of them."""

    def __init__(
        self,
        pool: WorkerPool,
        config: RayConfig,
        queue: ShardQueue,
        totals: PlanTotals,
        outputs: tuple[ScanWatch, OnMessage],
    ) -> None:
        self._pool, self._config, self._queue, self._totals = pool, config, queue, totals
        self._watch, self._on_message = outputs
        self.failures: list[ShardFailure] = []
        # What was reported so far of each shard in hand.
        self._reported: dict[int, RowsDone] = {}
        self._seconds: list[float] = []
        self._failed_in_a_row = 0
        self._bad_starts = 0
        self._begun = False
        self._reported_waiting = False
        self._slow: set[int] = set()
        self._started_at = time.monotonic()
        self._looked_at = self._counted_at = -_COUNT_ROOM_EVERY_S
        self._room = 0
        self._names: dict[str, str] = {}

    def unfinished(self) -> bool:
        """Whether any shard is left to scan, or being scanned."""
        return bool(self._queue) or any(worker.in_hand for worker in self._pool.workers)

    def staff(self) -> None:
        """Add workers while there is work and room for them; remove those without work."""
        now = time.monotonic()
        if now - self._counted_at >= _COUNT_ROOM_EVERY_S:
            self._counted_at = now
            self._room = max(self._config.min_workers, workers_that_fit(self._config))
            self._names = node_names()
        left = self._shards_left()
        wanted = min((self._config.max_workers or self._room) - self._bad_starts, left)
        while self._queue and len(self._pool.workers) < wanted:
            self._pool.add()
        if not self._queue:
            for worker in [worker for worker in self._pool.workers if not worker.in_hand]:
                self._pool.remove(worker)
        if not self._begun:
            self._await_workers(now)

    def _shards_left(self) -> int:
        return self._totals.shards - self._done_shards() - len(self.failures)

    def _done_shards(self) -> int:
        return self._totals.done_shards + len(self._seconds)

    def _await_workers(self, now: float) -> None:
        """Begin once `min_workers` are ready; raises ClusterError after `start_within_s`.

        With fewer shards than that, a worker for each shard is enough.
        """
        ready, least = len(self._pool.ready), min(self._config.min_workers, self._shards_left())
        waited_s = now - self._started_at
        if ready >= least:
            self._begun = True
        elif waited_s > self._config.start_within_s:
            raise ClusterError(
                f"only {ready} of {least} workers are ready after {waited_s:.0f} s: "
                f"{no_room(self._config)}"
            )
        elif waited_s > _REPORT_WAITING_AFTER_S and not self._reported_waiting:
            self._reported_waiting = True
            self._on_message(
                f"waiting for workers: {ready} of {least} are ready: {no_room(self._config)}"
            )

    def hand_out(self) -> None:
        """Give shards to workers that have room; a shard that failed before goes to an idle one."""
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
        """Record an event and report it."""
        match event:
            case Started():
                self._bad_starts = max(0, self._bad_starts - 1)
            case NotStarted(worker, fault):
                self._bad_start(worker, fault)
            case Reported(worker, state):
                for index, done in state.shards.items():
                    if index in worker.in_hand:
                        self._advance(index, done)
                for message in state.messages:
                    self._on_message(f"{self._name(worker)}: {message}")
                self._report_slow(worker, next(iter(state.shards), None), state.seconds)
            case Done(worker, shard, answer):
                self._advance(shard.index, answer.done)
                del self._reported[shard.index]
                self._seconds.append(answer.seconds)
                scan_s = answer.seconds - answer.commit_s
                self._watch.committed(
                    CommittedShard(shard, answer.done, scan_s, answer.commit_s, self._name(worker))
                )
                self._failed_in_a_row = 0
            case Failed(worker, shard, fault):
                self._fail(worker, shard, fault)

    def look(self) -> None:
        """Once a second, ask the workers for their progress and show it."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        self._pool.look()
        self._watch.cluster(self._state())

    def _bad_start(self, worker: Worker, fault: AigidError) -> None:
        self._bad_starts += 1
        place = f" on {self._name(worker)}" if worker.node else ""
        line = f"a worker could not start{place}: {fault}"
        most = min(_MOST_BAD_STARTS, self._config.max_workers or self._room)
        if not self._pool.ready and self._bad_starts >= most:
            raise ClusterError(f"{line}; no other worker is left")
        self._on_message(f"{line}; going on with the others")

    def _fail(self, worker: Worker, shard: Shard, fault: AigidError) -> None:
        self._advance(shard.index, RowsDone())
        del self._reported[shard.index]
        if isinstance(fault, ServerError):
            raise fault
        failure = self._queue.failed(shard, f"on {self._name(worker)}: {fault}")
        if failure is None:
            self._on_message(
                f"shard {shard.index} failed on {self._name(worker)}: {fault}; it will be retried"
            )
            return
        if isinstance(fault, ResultsError):
            raise fault
        self.failures.append(failure)
        self._failed_in_a_row += 1
        self._on_message(f"given up after {self._config.shard_attempts} attempts: {failure}")
        if self._failed_in_a_row >= _MOST_FAILURES_IN_A_ROW:
            raise AigidError(
                f"{self._failed_in_a_row} shards in a row failed for good, the last one: "
                f"{failure}; solve this and run the scan again"
            )

    def _advance(self, index: int, done: RowsDone) -> None:
        """Report what is new of a shard; less than before if an attempt was lost."""
        before = self._reported.get(index, RowsDone())
        self._reported[index] = done
        if done != before:
            self._watch.advance(done - before)

    def _report_slow(self, worker: Worker, index: int | None, seconds: float) -> None:
        """Report a shard that takes much longer than others, once."""
        if index not in worker.in_hand or index in self._slow:
            return
        if len(self._seconds) < _LEAST_SHARDS_FOR_A_MEDIAN:
            return
        usual = median(self._seconds)
        if seconds > max(_SLOW_FROM_S, _SLOW_FACTOR * usual):
            self._slow.add(index)
            self._on_message(
                f"shard {index} is slow: {seconds:.0f} s so far on {self._name(worker)}, others "
                f"take {usual:.0f} s"
            )

    def _state(self) -> ClusterState:
        nodes: dict[str, list[float]] = defaultdict(list)
        for worker in self._pool.ready:
            nodes[self._name(worker)].append(worker.rows_per_s())
        running = [index for worker in self._pool.workers for index in worker.in_hand]
        return ClusterState(
            total=self._totals.shards,
            done=self._done_shards(),
            running=len(running),
            failed=len(self.failures),
            slow=tuple(sorted(self._slow.intersection(running))),
            nodes={
                name: NodeState(len(rates), sum(rates)) for name, rates in sorted(nodes.items())
            },
        )

    def _name(self, worker: Worker) -> str:
        if worker.node is None:
            return "an unknown node"
        if worker.node not in self._names:
            self._names = node_names()
        return self._names.get(worker.node, worker.node[:6])
