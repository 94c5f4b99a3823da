"""The workers of a scan on a Ray cluster: started, given shards, asked how far they are, and taken off when they die."""

import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
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
    """An actor as the driver knows it: its machine, the shards it has in hand, its rows over time."""

    actor: Any
    node: str | None = None
    ready: bool = False
    in_hand: dict[int, Shard] = field(default_factory=dict)
    being_asked: bool = False
    _rows: deque[tuple[float, int]] = field(default_factory=deque)

    def note_rows(self, rows: int) -> None:
        """Note how many rows it has done since its start."""
        now = time.monotonic()
        self._rows.append((now, rows))
        while now - self._rows[0][0] > _RATE_OVER_S:
            self._rows.popleft()

    def rows_per_s(self) -> float:
        """Its speed over the last half minute."""
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
    """A worker could not start; `fault` is ours where it says itself why."""

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
    """A shard failed, by an error of ours or as its worker died."""

    worker: Worker
    shard: Shard
    fault: AigidError


@dataclass(frozen=True)
class Told:
    """A worker said how far it is."""

    worker: Worker
    state: WorkerState


Event = Started | NotStarted | Done | Failed | Told


class WorkerPool:
    """Actors and the answers that are still to come from them; used by one thread."""

    def __init__(self, config: RayConfig, order: WorkOrder) -> None:
        """Start none yet."""
        asked = worker_resources(config)
        self._options = {
            "num_cpus": asked.pop("CPU"),
            "num_gpus": asked.pop("GPU", 0),
            "memory": asked.pop("memory", None),
            "resources": asked,
            "max_restarts": 0,
            "max_concurrency": 2,
        }
        self._class: Any = ray.remote(concurrency_groups={"watch": 1})(ShardWorker)  # type: ignore[call-overload]
        self._order = ray.put(order)
        self._answers: dict[Any, tuple[Worker, str, Shard | None]] = {}
        self.workers: list[Worker] = []

    @property
    def ready(self) -> list[Worker]:
        """The workers that can be given shards."""
        return [worker for worker in self.workers if worker.ready]

    def add(self) -> None:
        """Start one more worker: when there is room for it."""
        worker = Worker(self._class.options(**self._options).remote())
        self.workers.append(worker)
        self._answers[worker.actor.node.options(concurrency_group="watch").remote()] = (
            worker,
            "node",
            None,
        )
        self._answers[worker.actor.start.remote(self._order)] = (worker, "start", None)

    def remove(self, worker: Worker) -> None:
        """End a worker; what it has in hand fails."""
        if worker in self.workers:
            self.workers.remove(worker)
            worker.ready = False
            ray.kill(worker.actor)

    def close(self) -> None:
        """End all workers at once; nothing that they have in hand is committed any more."""
        self._answers.clear()
        for worker in list(self.workers):
            self.remove(worker)

    def give(self, worker: Worker, shard: Shard) -> None:
        """Have a worker scan a shard."""
        worker.in_hand[shard.index] = shard
        self._answers[worker.actor.scan.remote(shard)] = (worker, "scan", shard)

    def look(self) -> None:
        """Ask every ready worker that has answered the last time how far it is."""
        for worker in self.ready:
            if not worker.being_asked:
                worker.being_asked = True
                answer = worker.actor.state.options(concurrency_group="watch").remote()
                self._answers[answer] = (worker, "state", None)

    def events(self, timeout_s: float) -> Iterator[Event]:
        """What has happened; waits for it so long."""
        if not self._answers:
            time.sleep(timeout_s)
            return
        answers = list(self._answers)
        arrived, _ = ray.wait(answers, timeout=timeout_s)
        more, _ = ray.wait(answers, num_returns=len(answers), timeout=0)
        for answer in {*arrived, *more}:
            worker, what, shard = self._answers.pop(answer)
            event = self._event(answer, worker, what, shard)
            if event is not None:
                yield event

    def _event(self, answer: Any, worker: Worker, what: str, shard: Shard | None) -> Event | None:
        if shard is not None:
            del worker.in_hand[shard.index]
        try:
            value = ray.get(answer)
        except RayError as error:
            return self._fault(error, worker, what, shard)
        if what == "node":
            worker.node = value
        elif what == "start":
            worker.ready = True
            return Started(worker)
        elif what == "state":
            worker.being_asked = False
            worker.note_rows(value.rows)
            return Told(worker, value)
        elif shard is not None:
            return Done(worker, shard, value)
        return None

    def _fault(
        self, error: RayError, worker: Worker, what: str, shard: Shard | None
    ) -> Event | None:
        fault = _ours(error)
        if isinstance(error, RayActorError) or what == "start":
            known = worker in self.workers
            self.remove(worker)
            if what == "start" and known or what == "node" and known:
                return NotStarted(worker, fault)
        return None if shard is None else Failed(worker, shard, fault)


def _ours(error: RayError) -> AigidError:
    """The error that a worker raised, where it is one of ours; else one that says what happened to it."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        return (
            cause
            if isinstance(cause, AigidError)
            else AigidError(f"{type(cause).__name__}: {_one_line(cause)}")
        )
    text = " ".join(str(error).split())
    place = f" on {where[1]}" if (where := _ADDRESS.search(text)) else ""
    if missing := _MISSING.search(text):
        return AigidError(
            f"the worker process{place}: {missing[0]}: install aigid there, with the extras that it has here"
        )
    if _OUT_OF_MEMORY.search(text):
        return AigidError(
            f"the worker process{place} was ended as its machine ran out of memory: reserve more for each with "
            "--worker-memory, have fewer with --max-workers, or lower --worker-cpus or --batch-size"
        )
    if (
        isinstance(error, ActorUnavailableError)
        or "node" in text
        and "died" in text
        and "worker process" not in text
    ):
        return AigidError(
            f"the worker process{place} could not be reached any more: its machine is gone, or cut off"
        )
    return AigidError(
        f"the worker process{place} died: killed, out of memory (--worker-memory reserves it) or crashed; Ray's logs of "
        f"that machine say more"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
