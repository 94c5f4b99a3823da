"""Measure the overhead of a scan on a Ray cluster: the planning, the driver, the commits.

The workers' job reads the rows of its shards as a scan does, and gives every row the same answer
without decoding or scoring. The baseline is a plain read of the same files with pyarrow by as many
processes.
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

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aigid.config import RayConfig
from aigid.decisions import VerdictRule
from aigid.fetch import image_references
from aigid.manifest import Manifest, open_manifest, read_segment
from aigid.observe import ScanWatch
from aigid.progress import OnBatch, RowsDone
from aigid.progress_bar import SilentProgress
from aigid.records import DEFAULT_LABELS, Mode
from aigid.results import (
    ScannedShard,
    ScoredBy,
    ShardAnswers,
    count_results,
    image_column,
    open_results,
    result_table,
)
from aigid.scan_job import ScanShards
from aigid.shards import PlanTotals, Shard, plan_shards

WORKERS = 2
MAX_PLAN_S, MAX_DRIVER_MIB, MAX_OVERHEAD = 60, 500, 0.20
SHARD_ROWS = 10_000
SCORED_BY = ScoredBy(
    "none", "0" * 64, "fp32", DEFAULT_LABELS, 0.5, VerdictRule(Mode.BEST_GUESS, 0.5, 0.5)
)
CHILD = "--child"
FIGURES = (
    ("plan, s", "plan_s", "{:.2f}", f"at most {MAX_PLAN_S}"),
    ("driver's peak memory, MiB", "driver_mib", "{:.0f}", f"at most {MAX_DRIVER_MIB}"),
    ("plain read, s", "plain_s", "{:.2f}", ""),
    ("run until the first shard is committed, s", "start_s", "{:.2f}", ""),
    ("run, s", "run_s", "{:.2f}", ""),
    ("run after the start / plain read - 1", "overhead", "{:.1%}", f"at most {MAX_OVERHEAD:.0%}"),
    ("count the results, s", "count_s", "{:.2f}", ""),
)


@dataclass(frozen=True)
class ReadJob:
    """Reads the rows of shards as a scan does, and gives each the same answer."""

    manifest: Manifest

    @contextmanager
    def open(self, threads: int, on_message: Callable[[str], None]) -> Iterator[ScanShards]:
        """Yield the function that reads shards. There is nothing to prepare."""
        yield self._read

    def _read(
        self, shards: Iterable[Shard], on_batch: OnBatch
    ) -> Generator[ScannedShard, None, None]:
        for shard in shards:
            answers = ShardAnswers.of(shard, len(DEFAULT_LABELS))
            answers.p_ai[:], answers.p_source[:], answers.known_score[:] = 0.25, 0.05, 0.5
            for segment in shard.segments:
                answers.begin_segment()
                for rows in read_segment(self.manifest, segment):
                    images = image_references(rows.column(self.manifest.columns.image))
                    answers.add_rows(image_column(images), self.manifest.kept(rows))
                    answers.done += RowsDone(len(rows))
                    on_batch(RowsDone(len(rows)))
            table = result_table(self.manifest, answers, SCORED_BY)
            yield ScannedShard(shard, table, answers.done, time.perf_counter() - answers.began)


def plan_and_run(folder: str, out: str) -> dict[str, float]:
    """Plan, run and count as the driver of a scan does.

    Returns the seconds of each, and the peak memory of this process in MiB.
    """
    from aigid.runners import WorkOrder, connect_ray, run_ray

    started = time.time()
    manifest = open_manifest([folder])
    totals = PlanTotals.of(plan_shards(manifest.files, SHARD_ROWS), ())
    plan_s = time.time() - started
    results = open_results(out)
    config = RayConfig("local", min_workers=WORKERS, max_workers=WORKERS)
    with connect_ray(config), results.open() as token:
        job = ReadJob(manifest.without_files())
        order = WorkOrder(job, out, token, ".", manifest.files[0].path, threads=1)
        started = time.time()
        shards = plan_shards(manifest.files, SHARD_ROWS)
        watch = ScanWatch(SilentProgress())
        run_ray(order, config, shards, totals, watch, on_message=lambda message: None)
        run_s = time.time() - started
        first_commit = min(path.stat().st_ctime for path in Path(out).rglob("*.parquet"))
        counting = time.time()
        rows = count_results(results, plan_shards(manifest.files, SHARD_ROWS), DEFAULT_LABELS).rows
        count_s = time.time() - counting
    return {
        "rows": rows,
        "plan_s": plan_s,
        "start_s": first_commit - started,
        "run_s": run_s,
        "count_s": count_s,
        "driver_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_child(*arguments: str) -> dict[str, float]:
    """Do the same as `plan_and_run` in a process of its own, for its peak memory."""
    command = [sys.executable, __file__, CHILD, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(done.stderr)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def read_plainly(folder: Path) -> float:
    """Return the seconds in which WORKERS processes read all columns of all files with pyarrow."""
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.map(_read_file, files[: 4 * WORKERS])
        started = time.perf_counter()
        rows = sum(pool.imap_unordered(_read_file, files, chunksize=4))
        elapsed_s = time.perf_counter() - started
    assert rows, "no rows were read"
    return elapsed_s


def _read_file(path: str) -> int:
    file = pq.ParquetFile(path, pre_buffer=False)
    return sum(len(batch) for batch in file.iter_batches(128, use_threads=False))


def write_files(folder: Path, files: int, rows: int, image_bytes: int) -> None:
    """Write a manifest of many files. Its images are random bytes, which nothing here decodes."""
    generator = np.random.default_rng(0)
    captions = [f"the image of row {row}" for row in range(rows)]
    for number in track(range(files), "writing", console=Console(stderr=True)):
        noise = generator.bytes(image_bytes + rows)
        images = [noise[row : row + image_bytes] for row in range(rows)]
        table = pa.table({"image": pa.array(images, pa.binary()), "caption": captions})
        path = folder / f"{number:06}.parquet"
        pq.write_table(table, path, compression="none", use_dictionary=False)


def measure(manifest: Path, out: Path) -> dict[str, float]:
    """Return the figures of one round. `out` is a folder that does not exist yet."""
    plain_s = read_plainly(manifest)
    figures = in_child(str(manifest), str(out))
    overhead = (figures["run_s"] - figures["start_s"]) / plain_s - 1
    return figures | {"plain_s": plain_s, "overhead": overhead}


def counted(number: int, noun: str) -> str:
    """Return as in "1 file" or "2 files"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@click.command()
@click.option("--files", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option(
    "--rows", type=click.IntRange(min=1), default=500, show_default=True, help="Rows of each file."
)
@click.option("--image-bytes", type=click.IntRange(min=1), default=16384, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Keep the files here, or use those of an earlier run.  [default: a temporary folder]",
)
def main(files: int, rows: int, image_bytes: int, rounds: int, folder: Path | None) -> None:
    """Measure. Exit status 1 if a figure misses its target."""
    if folder is None and files * rows < WORKERS * SHARD_ROWS:
        raise click.UsageError(f"give every worker a shard: {WORKERS * SHARD_ROWS:,} rows or more")
    with tempfile.TemporaryDirectory() as temporary:
        manifest = folder or Path(temporary, "manifest")
        if not manifest.exists():
            manifest.mkdir(parents=True)
            write_files(manifest, files, rows, image_bytes)
        measured = [
            measure(manifest, Path(temporary, f"out{number}"))
            for number in track(range(rounds), "measuring", console=Console(stderr=True))
        ]
    size = f"{counted(files * rows, 'row')} in {counted(files, 'file')}"
    images = f"images of {counted(image_bytes, 'byte')}"
    title = f"{size}, {images}, {WORKERS} workers, {counted(rounds, 'round')}"
    table = Table("", "median", "min", "max", "target", title=title)
    for name, key, form, target in FIGURES:
        values = [figures[key] for figures in measured]
        cells = [form.format(value) for value in (median(values), min(values), max(values))]
        table.add_row(name, *cells, target)
    Console(width=120).print(table)
    found = {key: median(figures[key] for figures in measured) for key in measured[0]}
    missed = (
        found["plan_s"] > MAX_PLAN_S
        or found["driver_mib"] > MAX_DRIVER_MIB
        or found["overhead"] > MAX_OVERHEAD
    )
    sys.exit(missed)


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        print(json.dumps(plan_and_run(*sys.argv[2:4])))
    else:
        main()
