"""Measure `aigid relabel` and `aigid filter` on a scan of references: seconds, and peak memory.

The results are those of a scan whose answers are made up, so that nothing is scored. The baseline
of both is a plain copy of the same files with pyarrow: read, and written with zstd. Each runs in a
process of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from aigid.contract import find_model, load_contract
from aigid.decisions import VerdictRule
from aigid.filtering import FilterConfig, filter_manifest
from aigid.manifest import open_manifest
from aigid.progress_bar import SilentProgress
from aigid.records import Mode
from aigid.results import (
    SCAN_FORMAT,
    InputTotals,
    ModelIdentity,
    RelabelConfig,
    RunFigures,
    ScanModel,
    ScanRecord,
    ScanSettings,
    ScanSummary,
    ScoredBy,
    ShardAnswers,
    count_results,
    open_results,
    relabel,
    result_table,
    software_versions,
)
from aigid.shards import PlanTotals, Shard, plan_shards

MAX_SECONDS, SHARD_ROWS = 30, 10_000
CHILD = "--child"


def write_manifest(path: Path, rows: int) -> None:
    """Write a manifest of paths, captions, and an id."""
    schema = pa.schema([("image", pa.string()), ("prompt", pa.string()), ("id", pa.int64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, 100_000):
            numbers = range(start, min(rows, start + 100_000))
            images = [f"images/{row % 997:03}/{row:09}.jpg" for row in numbers]
            prompts = [
                f"a photo of thing {row % 4999}, in the style of {row % 7}" for row in numbers
            ]
            writer.write_table(pa.table([images, prompts, list(numbers)], schema=schema))


def write_results(manifest_path: Path, out: Path) -> None:
    """Write the results of a finished scan with made-up answers, 1 % of them errors."""
    contract = load_contract(find_model(None))
    manifest, results = open_manifest((str(manifest_path),)), open_results(str(out))
    rule = VerdictRule.of(Mode.BEST_GUESS, 0.5, contract)
    scored_by = ScoredBy(
        contract.name, contract.fingerprint, "int8", contract.labels, 0.5, rule, contract.open_set
    )
    settings = ScanSettings(
        manifest.columns, 0.5, "best-guess", 0.5, 0.5, None, SHARD_ROWS, None, False, False
    )

    def plan() -> Iterator[Shard]:
        return plan_shards(manifest.files, SHARD_ROWS)

    with results.open():
        totals = PlanTotals.of(plan(), set())
        record = ScanRecord(
            SCAN_FORMAT,
            (str(manifest_path),),
            InputTotals(1, totals.rows),
            ScanModel(contract.name, contract.fingerprint, "int8", contract.labels),
            settings,
            totals.shards,
            software_versions(),
        )
        results.claim(record, manifest.files)
        for shard in plan():
            results.commit(shard.index, result_table(manifest, _answers(shard), scored_by))
        listed = results.new_list()
        counts = count_results(results, plan(), contract.sources, on_shard=listed.append)
        results.write_shards(listed)
        model = ModelIdentity(contract.name, contract.fingerprint, contract.notice)
        figures, decided = RunFigures.of(0, 1.0), {"threshold": 0.5, "mode": "best-guess"}
        results.write_summary(
            ScanSummary(SCAN_FORMAT, model, run=figures, **decided, **vars(counts))  # type: ignore[arg-type]
        )


def _answers(shard: Shard) -> ShardAnswers:
    answers, random = ShardAnswers.of(shard, 6), np.random.default_rng(shard.index)
    rows = shard.rows
    answers.p_ai[:] = random.beta(0.4, 0.6, rows)
    answers.p_source[:, 0] = 1 - answers.p_ai
    answers.p_source[:, 1:] = answers.p_ai[:, None] * random.dirichlet(np.ones(5), rows)
    answers.known_score[:] = random.random(rows)
    answers.begin_segment()
    start = shard.segments[0].start
    names = [f"images/{row % 997:03}/{row:09}.jpg" for row in range(start, start + rows)]
    answers.add_rows(
        pa.array(names), pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    )
    return answers


def plain_copy(files: list[Path], out: Path) -> None:
    """Read Parquet files and write them again."""
    out.mkdir()
    for path in files:
        pq.write_table(pq.read_table(path), out / path.name, compression="zstd")


def work_of(name: str, folder: Path) -> Callable[[], object]:
    """Return what a child process measures."""
    results, out = folder / "results", folder / name.replace(" ", "-")
    if name == "copy of the results":
        return lambda: plain_copy(sorted((results / "detections").iterdir()), out)
    if name == "copy of the manifest":
        return lambda: plain_copy([folder / "m.parquet"], out)
    if name == "filter":
        config = FilterConfig(str(results), f"{out}.parquet", verdict=("real",))
        return lambda: filter_manifest(config)
    target = None if name == "relabel in place" else str(out)
    # Another threshold each time: in place, the same one would change nothing.
    threshold = 0.5 + time.time() % 1 / 4
    relabelling = RelabelConfig(str(results), target, threshold=threshold)
    return lambda: relabel(relabelling, SilentProgress())


def measure_in_child(name: str, folder: Path) -> dict[str, float]:
    """Run the work in a process of its own, and return its seconds and peak memory."""
    command = [sys.executable, __file__, CHILD, name, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def run_child(name: str, folder: str) -> None:
    """Print what the work took."""
    work, started = work_of(name, Path(folder)), time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    figures = RunFigures.of(0, seconds)
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_mib": figures.peak_memory_mib}))


@click.command()
@click.option("--rows", multiple=True, type=int, default=(250_000, 1_000_000), show_default=True)
@click.option("--rounds", type=int, default=3, show_default=True)
def main(rows: tuple[int, ...], rounds: int) -> None:
    """Measure both commands at several sizes, in alternating rounds."""
    names = (
        *("copy of the results", "relabel", "relabel in place"),
        *("copy of the manifest", "filter"),
    )
    table = Table("rows", "work", "seconds, median", "peak memory, MiB")
    for count in rows:
        with tempfile.TemporaryDirectory(prefix="aigid-") as scratch:
            folder = Path(scratch)
            write_manifest(folder / "m.parquet", count)
            write_results(folder / "m.parquet", folder / "results")
            found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for _ in range(rounds):
                for name in names:
                    found[name].append(measure_in_child(name, folder))
                for name in names:
                    _remove(folder / name.replace(" ", "-"))
        for name, figures in found.items():
            seconds = median(one["seconds"] for one in figures)
            peak = max(one["peak_mib"] for one in figures)
            table.add_row(f"{count:,}", name, f"{seconds:.2f}", f"{peak:.0f}")
    Console().print(table, f"the bar: {MAX_SECONDS} s at 1,000,000 rows, and memory that stays")


def _remove(path: Path) -> None:
    for file in sorted(path.rglob("*"), reverse=True) if path.is_dir() else ():
        file.rmdir() if file.is_dir() else file.unlink()
    if path.is_dir():
        path.rmdir()
    path.with_suffix(".parquet").unlink(missing_ok=True)


if __name__ == "__main__":
    if CHILD in sys.argv:
        run_child(*sys.argv[2:])
    else:
        main()
