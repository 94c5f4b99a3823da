"""The protocol by which a scan reports its progress, whoever shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

OnMessage = Callable[[str], None]
"""Called with a line that a person must see."""


@dataclass(frozen=True)
class NodeState:
    """A node of a cluster: its workers, and the rows a second that they did lately."""

    workers: int
    rows_per_s: float


@dataclass(frozen=True)
class ClusterState:
    """A scan on a cluster: its shards, the running ones that are slow, and the nodes by name."""

    total: int
    done: int
    running: int
    failed: int
    slow: tuple[int, ...]
    nodes: Mapping[str, NodeState]


class ScanProgress(Protocol):
    """What a scan reports while it runs."""

    def start(self, total_rows: int, done_rows: int, *, at_least: bool = False) -> None:
        """Begin; `done_rows` of the rows were committed by an earlier run.

        With `at_least` there are more rows than `total_rows`, and nobody knows how many.
        """
        ...

    def advance(self, rows: int, errors: int) -> None:
        """Add rows that are done, `errors` of them with an error.

        Both are negative where work was lost with a worker.
        """
        ...

    def cluster(self, state: ClusterState) -> None:
        """Take the state of the cluster; about once a second, and on a cluster only."""
        ...
