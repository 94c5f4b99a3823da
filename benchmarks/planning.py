"""What a scan on a Ray cluster costs beside the work itself: planning, the driver's memory, handing out and committing.

The workers' job here reads its shards' rows as the scan does, and answers each row at no cost; beside it stands a plain read
of the same files by as many processes.
"""

import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aigid.config import RayConfig
from aigid.manifest import Manifest, open_manifest, read_segment
from aigid.results import open_results, result_table
from aigid.scan_job import ScanShards
from aigid.scorers import Scores
from aigid.shards import PlanTotals, Shard, plan_shards

WORKERS = 2
MOST_PLANNING_S, MOST_DRIVER_MB, MOST_OVERHEAD = 60, 500, 0.20
SHARD_ROWS = 10_000
CHILD = "--child"


@dataclass(frozen=True)
class ReadJob:
    """Reads a shard's rows as the scan does, and gives each the same answer."""

    manifest: Manifest

    @contextmanager
    def open(self, threads: int, on_message: Callable[[str], None]) -> Iterator[ScanShards]:
        """Nothing to get ready."""
        yield self._scan

    def _scan(
        self, shards: Iterable[Shard], on_batch: Callable[[int, int], None]
    ) -> Generator[tuple[Shard, pa.Table], None, None]:
        for shard in shards:
            kept = []
            for segment in shard.segments:
                for rows in read_segment(self.manifest, segment):
                    kept.append(self.manifest.kept(rows))
                    on_batch(len(rows), 0)
            p_ai = np.full(shard.rows, 0.25, np.float32)
            p_source = np.full((shard.rows, 6), 0.05, np.float32)
            table = pa.Table.from_batches(kept, schema=self.manifest.keep_schema)
            yield shard, result_table(self.manifest, shard, table, Scores(p_ai, p_source), {}, 0.5)


class Quiet:
    """Nobody looks on."""

    def start(self, total_rows: int, done_rows: int) -> None:
        """Show nothing."""

    def advance(self, rows: int, errors: int) -> None:
        """Show nothing."""

    def cluster(self, state: Any) -> None:
        """Show nothing."""


def plan_and_run(folder: str, out: str) -> dict[str, float]:
    """As the driver of a scan: plan, run, count; seconds of each, and the process's peak memory."""
    from aigid.runners.ray import run_ray
    from aigid.runners.ray_cluster import ray_cluster
    from aigid.runners.ray_worker import WorkOrder

    started = time.perf_counter()
    manifest = open_manifest([folder])
    extent = PlanTotals.of(plan_shards(manifest.files, SHARD_ROWS), ())
    planned = time.perf_counter()
    results = open_results(out)
    config = RayConfig("local", min_workers=WORKERS, max_workers=WORKERS)
    notes: list[str] = []
    with ray_cluster(config), results.open() as token:
        order = WorkOrder(
            ReadJob(manifest.without_files()), out, token, ".", manifest.files[0].path, 1
        )
        begun = time.perf_counter()
        run_ray(
            order, config, plan_shards(manifest.files, SHARD_ROWS), extent, Quiet(), notes.append
        )
        ended = time.perf_counter()
        first = min(path.stat().st_ctime for path in Path(out).glob("*.parquet"))
        rows = results.count(plan_shards(manifest.files, SHARD_ROWS))["rows"]
        counted = time.perf_counter()
    start_s = ended - begun - (time.time() - (time.perf_counter() - ended) - first)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": rows,
        "plan_s": planned - started,
        "start_s": start_s,
        "run_s": ended - begun,
        "count_s": counted - ended,
        "driver_mb": peak_mb,
    }


def in_child(*arguments: str) -> dict[str, float]:
    """The same in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, CHILD, *arguments], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def read_plainly(folder: Path) -> float:
    """Seconds in which so many processes read all files' columns with pyarrow."""
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.map(_read_file, files[: 4 * WORKERS])
        started = time.perf_counter()
        rows = sum(pool.imap_unordered(_read_file, files, chunksize=4))
        elapsed_s = time.perf_counter() - started
    assert rows, "nothing was read"
    return elapsed_s


def _read_file(path: str) -> int:
    return sum(
        len(batch)
        for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(128, use_threads=False)
    )


def write_files(folder: Path, files: int, rows: int, image_bytes: int) -> None:
    """Write a manifest of many files, whose images are noise: nobody decodes them here."""
    generator = np.random.default_rng(0)
    for number in track(range(files), "writing", console=Console(stderr=True)):
        noise = generator.bytes(image_bytes + rows)
        images = [noise[row : row + image_bytes] for row in range(rows)]
        table = pa.table(
            {
                "image": pa.array(images, pa.binary()),
                "caption": [f"a picture of row {row}" for row in range(rows)],
            }
        )
        pq.write_table(
            table, folder / f"{number:06}.parquet", compression="none", use_dictionary=False
        )


@click.command()
@click.option("--files", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option(
    "--rows", type=click.IntRange(min=1), default=500, show_default=True, help="Of each file."
)
@click.option("--image-bytes", type=click.IntRange(min=1), default=16384, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Where the files are kept.  [default: a temporary folder]",
)
def main(files: int, rows: int, image_bytes: int, rounds: int, folder: Path | None) -> None:
    """Measure; status 1 where more is used than asked for."""
    with tempfile.TemporaryDirectory() as temporary:
        manifest = folder or Path(temporary, "manifest")
        if not manifest.exists():
            manifest.mkdir(parents=True)
            write_files(manifest, files, rows, image_bytes)
        measured = []
        for number in track(range(rounds), "measuring", console=Console(stderr=True)):
            plain_s = read_plainly(manifest)
            figures = in_child(str(manifest), f"{temporary}/out{number}")
            figures |= {
                "plain_s": plain_s,
                "overhead": (figures["run_s"] - figures["start_s"]) / plain_s - 1,
            }
            measured.append(figures)
    title = f"{files * rows:,} rows in {files:,} files, images of {image_bytes:,} bytes, {WORKERS} workers, {rounds} rounds"
    table = Table("", "median", "least", "most", "asked for", title=title)
    for name, key, form, asked in (
        ("planning, s", "plan_s", "{:.2f}", f"{MOST_PLANNING_S}"),
        ("driver's peak memory, MB", "driver_mb", "{:.0f}", f"{MOST_DRIVER_MB}"),
        ("plain read, s", "plain_s", "{:.2f}", ""),
        ("run until the first shard is committed, s", "start_s", "{:.2f}", ""),
        ("run, s", "run_s", "{:.2f}", ""),
        ("run after the start / plain read - 1", "overhead", "{:.1%}", f"{MOST_OVERHEAD:.0%}"),
        ("counting the results, s", "count_s", "{:.2f}", ""),
    ):
        values = [one[key] for one in measured]
        table.add_row(
            name,
            *(form.format(value) for value in (median(values), min(values), max(values))),
            asked,
        )
    Console(width=120).print(table)
    found = {key: median(one[key] for one in measured) for key in measured[0]}
    missed = (
        found["plan_s"] > MOST_PLANNING_S
        or found["driver_mb"] > MOST_DRIVER_MB
        or found["overhead"] > MOST_OVERHEAD
    )
    sys.exit(missed)


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        print(json.dumps(plan_and_run(*sys.argv[2:4])))
    else:
        main()
