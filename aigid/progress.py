"""What a scan reports while it runs, and the protocol of whoever shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aigid.records import ErrorCode

OnMessage = Callable[[str], None]
"""Called with a line that a person must see."""


@dataclass(frozen=True)
class StageFigures:
    """Where the time of a scan goes: seconds of all its threads together, by stage.

    `fetch_s` is spent waiting for images, and `score_s` on scores: with servers, from each request
    to its answer. `duplicates` counts the rows whose answer another row had before, where answers
    are reused.
    """

    fetch_s: float = 0.0
    evidence_s: float = 0.0
    decode_s: float = 0.0
    score_s: float = 0.0
    duplicates: int | None = None

    def __add__(self, other: "StageFigures") -> "StageFigures":
        return self._with(other, 1)

    def __sub__(self, other: "StageFigures") -> "StageFigures":
        return self._with(other, -1)

    def _with(self, other: "StageFigures", sign: int) -> "StageFigures":
        are_counted = self.duplicates is not None or other.duplicates is not None
        return StageFigures(
            self.fetch_s + sign * other.fetch_s,
            self.evidence_s + sign * other.evidence_s,
            self.decode_s + sign * other.decode_s,
            self.score_s + sign * other.score_s,
            (self.duplicates or 0) + sign * (other.duplicates or 0) if are_counted else None,
        )


@dataclass(frozen=True)
class RowsDone:
    """Rows that were scanned, the errors of some of them by code, and what they took.

    `image_bytes` counts the bytes of their images as they are stored.
    """

    rows: int = 0
    errors: Mapping[ErrorCode, int] = field(default_factory=dict)
    image_bytes: int = 0
    stages: StageFigures = StageFigures()

    @property
    def failed(self) -> int:
        """How many of the rows have an error."""
        return sum(self.errors.values())

    def __add__(self, other: "RowsDone") -> "RowsDone":
        return self._with(other, 1)

    def __sub__(self, other: "RowsDone") -> "RowsDone":
        return self._with(other, -1)

    def _with(self, other: "RowsDone", sign: int) -> "RowsDone":
        errors = dict(self.errors)
        for code, count in other.errors.items():
            errors[code] = errors.get(code, 0) + sign * count
        return RowsDone(
            self.rows + sign * other.rows,
            errors,
            self.image_bytes + sign * other.image_bytes,
            self.stages + other.stages if sign > 0 else self.stages - other.stages,
        )


OnBatch = Callable[[RowsDone], None]
"""Called after each batch of a scan with its rows."""


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
