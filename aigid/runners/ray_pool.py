"""The workers of a scan on a Ray cluster: started, given shards, asked for progress, replaced."""

import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from aigid.config import RayConfig
from aigid.errors import AigidError
from aigid.runners.ray_cluster import worker_resources
from aigid.runners.ray_worker import ShardAnswer, ShardWorker, WorkerState, WorkOrder
from aigid.shards import Shard

_RATE_OVER_S = 30.0
_ADDRESS = re.compile(r"\bip[:=] ?([0-9a-fA-F.:]+)")
_MISSING = re.compile(r"No module named '[^']+'")
_OUT_OF_MEMORY = re.compile(r"running low on memory|OutOfMemory|MemoryError")


@dataclass
class Worker:
    """An actor as the driver knows it: its node, the shards that it has, its rows over time."""

    actor: "ActorHandle[ShardWorker]"
    node: str | None = None
    ready: bool = False
    in_hand: dict[int, Shard] = field(default_factory=dict)
    being_asked: bool = False
    _rows: deque[tuple[float, int]] = field(default_factory=deque)

    def note_rows(self, rows: int) -> None:
        """Record the rows that it has done since its start."""
        now = time.monotonic()
        self._rows.append((now, rows))
        while now - self._rows[0][0] > _RATE_OVER_S:
            self._rows.popleft()

    def rows_per_s(self) -> float:
        """Return its speed over the last half minute."""
        if len(self._rows) < 2:
            return 0.0
        (then, before), (now, after) = self._rows[0], self._rows[-1]
        return (after - before) / (now - then)


@dataclass(frozen=True)
class Started:
    """A worker is ready."""

    worker: Worker


@dataclass(frozen=True)
class NotStarted:
    """A worker could not start; `fault` has the worker's own reason if it gave one."""

    worker: Worker
    fault: AigidError


@dataclass(frozen=True)
class Done:
    """A shard is committed."""

    worker: Worker
    shard: Shard
    answer: ShardAnswer


@dataclass(frozen=True)
class Failed:
    """A shard failed: the worker raised `fault`, or died."""

    worker: Worker
    shard: Shard
    fault: AigidError


@dataclass(frozen=True)
class Reported:
    """A worker reported its progress."""

    worker: Worker
    state: WorkerState


Event = Started | NotStarted | Done | Failed | Reported


class _Method(Enum):
    """A method of ShardWorker that the driver calls."""

    NODE = auto()
    START = auto()
    SCAN = auto()
    STATE = auto()


@dataclass(frozen=True)
class _Call:
    """A call whose answer has not come yet; `shard` is set for SCAN."""

    worker: Worker
    method: _Method
    shard: Shard | None = None


class WorkerPool:
    """The actors and the calls that they have not answered yet. Used by one thread."""

    def __init__(self, config: RayConfig, order: WorkOrder) -> None:
        """Start no worker yet."""
        asked = worker_resources(config)
        self._options = {
            "num_cpus": asked.pop("CPU"),
            "num_gpus": asked.pop("GPU", 0),
            "memory": asked.pop("memory", None),
            "resources": asked,
            "max_restarts": 0,
            "max_concurrency": 2,
        }
        # Ray's types know no concurrency groups, and no options of methods.
        self._class: Any = ray.remote(concurrency_groups={"watch": 1})(ShardWorker)  # type: ignore[call-overload]
        self._order = ray.put(order)
        self._calls: dict[ObjectRef[Any], _Call] = {}
        self.workers: list[Worker] = []

    @property
    def ready(self) -> list[Worker]:
        """The workers that take shards."""
        return [worker for worker in self.workers if worker.ready]

    def add(self) -> None:
        """Ask Ray for one more worker; it starts once a node has room for it."""
        actor: Any = self._class.options(**self._options).remote()
        worker = Worker(actor)
        self.workers.append(worker)
        node = actor.node.options(concurrency_group="watch").remote()
        self._calls[node] = _Call(worker, _Method.NODE)
        self._calls[actor.start.remote(self._order)] = _Call(worker, _Method.START)

    def remove(self, worker: Worker) -> None:
        """Kill a worker; the shards that it has fail."""
        if worker in self.workers:
            self.workers.remove(worker)
            worker.ready = False
            ray.kill(worker.actor)

    def close(self) -> None:
        """Kill all workers; the shards that they have are not committed."""
        self._calls.clear()
        for worker in list(self.workers):
            self.remove(worker)

    def give(self, worker: Worker, shard: Shard) -> None:
        """Have a worker scan a shard."""
        actor: Any = worker.actor
        worker.in_hand[shard.index] = shard
        self._calls[actor.scan.remote(shard)] = _Call(worker, _Method.SCAN, shard)

    def look(self) -> None:
        """Ask every ready worker for its progress, unless it still owes the last answer."""
        for worker in self.ready:
            if not worker.being_asked:
                worker.being_asked = True
                actor: Any = worker.actor
                answer = actor.state.options(concurrency_group="watch").remote()
                self._calls[answer] = _Call(worker, _Method.STATE)

    def events(self, timeout_s: float) -> Iterator[Event]:
        """Yield what has happened; waits up to `timeout_s` for the first event."""
        if not self._calls:
            time.sleep(timeout_s)
            return
        answers = list(self._calls)
        arrived, _ = ray.wait(answers, timeout=timeout_s)
        more, _ = ray.wait(answers, num_returns=len(answers), timeout=0)
        for answer in {*arrived, *more}:
            event = self._event(answer, self._calls.pop(answer))
            if event is not None:
                yield event

    def _event(self, answer: "ObjectRef[Any]", call: _Call) -> Event | None:
        worker = call.worker
        if call.shard is not None:
            del worker.in_hand[call.shard.index]
        try:
            value = ray.get(answer)
        except RayError as error:
            return self._fault(error, call)
        match call.method:
            case _Method.NODE:
                worker.node = value
            case _Method.START:
                worker.ready = True
                return Started(worker)
            case _Method.STATE:
                worker.being_asked = False
                worker.note_rows(value.rows)
                return Reported(worker, value)
            case _Method.SCAN if call.shard is not None:
                return Done(worker, call.shard, value)
        return None

    def _fault(self, error: RayError, call: _Call) -> Event | None:
        worker, fault = call.worker, _as_aigid_error(error)
        if isinstance(error, RayActorError) or call.method is _Method.START:
            known = worker in self.workers
            self.remove(worker)
            if known and call.method in (_Method.START, _Method.NODE):
                return NotStarted(worker, fault)
        return None if call.shard is None else Failed(worker, call.shard, fault)


def _as_aigid_error(error: RayError) -> AigidError:
    """Return the AigidError that a worker raised, or one that describes what happened to it."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, AigidError):
            return cause
        return AigidError(f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
    text = " ".join(str(error).split())
    place = f" on {where[1]}" if (where := _ADDRESS.search(text)) else ""
    if missing := _MISSING.search(text):
        return AigidError(
            f"the worker process{place}: {missing[0]}: install aigid there, with the extras that "
            "this node has"
        )
    if _OUT_OF_MEMORY.search(text):
        return AigidError(
            f"the worker process{place} was killed because its node ran out of memory: reserve "
            "more for each worker with `worker_memory_gib`, or lower `max_workers`, `worker_cpus` "
            "or `batch_rows`"
        )
    if isinstance(error, ActorUnavailableError) or _says_that_the_node_died(text):
        return AigidError(
            f"the worker process{place} cannot be reached: its node is gone, or disconnected"
        )
    return AigidError(
        f"the worker process{place} died: killed, crashed or out of memory (`worker_memory_gib` "
        "reserves memory); see Ray's logs on that node"
    )


def _says_that_the_node_died(text: str) -> bool:
    return "node" in text and "died" in text and "worker process" not in text
