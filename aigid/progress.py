"""What is told of a scan while it runs, whoever shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

OnMessage = Callable[[str], None]
"""Is given lines that a person must see."""


@dataclass(frozen=True)
class NodeState:
    """A machine's workers, and their rows a second lately."""

    workers: int
    rows_per_s: float


@dataclass(frozen=True)
class ClusterState:
    """The shards of a scan on a cluster, those among the running that are slow, and the machines by name."""

    total: int
    done: int
    running: int
    failed: int
    slow: tuple[int, ...]
    nodes: Mapping[str, NodeState]


class ScanProgress(Protocol):
    """What is told of a scan while it runs."""

    def start(self, total_rows: int, done_rows: int) -> None:
        """The scan begins; `done_rows` were committed by an earlier run."""
        ...

    def advance(self, rows: int, errors: int) -> None:
        """More rows are done, `errors` of them with an error; less, where work was lost with a worker."""
        ...

    def cluster(self, state: ClusterState) -> None:
        """How it stands with shards and machines; about once a second, on a cluster alone."""
        ...
