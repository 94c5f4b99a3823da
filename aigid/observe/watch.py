"""What a scan has done so far: one count, for progress, metrics, traces and the summary."""

from collections.abc import Callable
from dataclasses import dataclass

from aigid.batching import BatchQueue
from aigid.progress import ClusterState, RowsDone, ScanProgress
from aigid.shards import PlanTotals, Shard


@dataclass(frozen=True)
class ScanBegin:
    """What a scan begins with: its plan, and its model."""

    totals: PlanTotals
    model: str
    fingerprint: str
    precision: str


@dataclass(frozen=True)
class CommittedShard:
    """A shard whose result file is there, and what was done for it.

    The commit, the last `commit_s` seconds, came after the `scan_s` seconds of the scan. `node` is
    where it was scanned on a cluster.
    """

    shard: Shard
    done: RowsDone
    scan_s: float
    commit_s: float
    node: str | None = None


OnCommit = Callable[[ScanBegin, CommittedShard], None]
"""Called after each commit."""


class ScanWatch:
    """Counts what the shards of this run come to, and passes it on to `progress`.

    Another thread may read it at any time. `begin` is None until the scan knows its plan,
    `cluster_state` on one host. `queue` is None on a cluster, whose batches are elsewhere.
    """

    def __init__(
        self,
        progress: ScanProgress,
        on_commit: OnCommit | None = None,
        queue: BatchQueue | None = None,
    ) -> None:
        self._progress, self._on_commit, self.queue = progress, on_commit, queue
        self.begin: ScanBegin | None = None
        self.done = RowsDone()
        self.committed_shards = 0
        self.cluster_state: ClusterState | None = None

    def start(self, begin: ScanBegin) -> None:
        """Take the plan and the model."""
        self.begin = begin
        totals = begin.totals
        self._progress.start(totals.rows, totals.done_rows, at_least=totals.at_least)

    def advance(self, done: RowsDone) -> None:
        """Add rows that are done; they are negative where work was lost with a worker."""
        self.done += done
        self._progress.advance(done.rows, done.failed)

    def committed(self, shard: CommittedShard) -> None:
        """Count a shard whose result file is there."""
        self.committed_shards += 1
        if self._on_commit is not None and self.begin is not None:
            self._on_commit(self.begin, shard)

    def cluster(self, state: ClusterState) -> None:
        """Take the state of the cluster."""
        self.cluster_state = state
        self._progress.cluster(state)
