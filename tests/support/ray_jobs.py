"""Jobs for workers that do almost nothing, or fail as chosen. Workers import them from here."""

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from aigid.errors import AigidError, ServerError
from aigid.progress import OnBatch, RowsDone, StageFigures
from aigid.records import ErrorCode
from aigid.results import ScannedShard
from aigid.scan_job import ScanShards
from aigid.shards import Shard

BATCHES = 4


@dataclass(frozen=True)
class StandInJob:
    """Makes a small table of each shard in `seconds`, and sends `message` at its start.

    `fates` maps the indexes of shards to what happens to them; a shard with the fate "held" is not
    finished before the file `release` exists.
    """

    seconds: float = 0.0
    fates: tuple[tuple[int, str], ...] = ()
    message: str = ""
    release: str = ""

    @contextmanager
    def open(self, threads: int, on_message: Callable[[str], None]) -> Iterator[ScanShards]:
        if self.message:
            on_message(self.message)
        yield self._scan

    def _scan(
        self, shards: Iterable[Shard], on_batch: OnBatch
    ) -> Generator[ScannedShard, None, None]:
        for shard in shards:
            done = RowsDone()
            for _ in range(BATCHES):
                time.sleep(self.seconds / BATCHES)
                batch = RowsDone(
                    shard.rows // BATCHES,
                    {ErrorCode.MISSING: 1},
                    stages=StageFigures(score_s=1 / BATCHES),
                )
                done += batch
                on_batch(batch)
            self._meet(dict(self.fates).get(shard.index, "done"), shard)
            rows = range(shard.segments[0].start, shard.segments[0].stop)
            yield ScannedShard(shard, pa.table({"row": rows}), done, self.seconds)

    def _meet(self, fate: str, shard: Shard) -> None:
        if fate == "fail":
            raise AigidError(f"row {shard.segments[0].start} is cursed")
        if fate == "bug":
            raise ZeroDivisionError("an unexpected bug")
        if fate == "servers gone":
            raise ServerError("no server answers")
        if fate == "crash":
            os._exit(3)
        while fate == "held" and not Path(self.release).exists():
            time.sleep(0.02)
