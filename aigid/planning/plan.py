"""The plan of a scan: find, look at a sample, estimate. Nothing is written."""

from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.batching import WAITING_BYTES
from aigid.config import ScanConfig
from aigid.contract import find_model
from aigid.errors import AigidError, UsageError
from aigid.manifest import Manifest, open_manifest
from aigid.memory_budget import LARGE_ROWS, SMALL_BYTES
from aigid.planning.measure import Measured, measure
from aigid.planning.sample_rows import sample_segments
from aigid.planning.scan_plan import (
    DEFAULT_SAMPLE_ROWS,
    Estimate,
    FilesFound,
    PlannedColumns,
    ScanPlan,
)
from aigid.progress import OnMessage
from aigid.results import RunFigures, check_kept_columns
from aigid.scan_job import make_scanner, optional_columns
from aigid.scorers import load_scorer
from aigid.shard_scan import ShardScanner
from aigid.shards import SHARD_KEPT_BYTES, PlanTotals, plan_shards
from aigid.sources import Kind, expand_braces

_MIB = 1 << 20
# A row in a tar has a header and padding for its image and its text.
_TAR_ROW_BYTES = 2048
# Batches that wait as encoded images: two for each thread, and those that it works on.
_BATCHES_PER_THREAD = 3


def plan_scan(
    config: ScanConfig,
    sample_rows: int = DEFAULT_SAMPLE_ROWS,
    price_per_hour: float | None = None,
    on_message: OnMessage = lambda line: None,
) -> ScanPlan:
    """Return what a scan with this config finds, and what it would take on this host.

    `out` and `ray` of the config are not used. About `sample_rows` rows are fetched, decoded and
    scored. `price_per_hour` is the price of this host, for the cost.

    Raises the errors with which a scan would not begin. One that comes later is `refusal`.
    """
    if sample_rows < 1:
        raise UsageError(f"`sample` must be 1 or more: got {sample_rows}")
    paths = expand_braces(config.paths)
    manifest = open_manifest(paths, config.columns, limit=config.limit)
    check_kept_columns(manifest.keep_schema, optional_columns(config))
    totals = PlanTotals.of(plan_shards(manifest.files, config.shard_rows, config.limit), ())
    repository = find_model(config.model)
    with closing(load_scorer(repository, config.triton, config.batch_rows, on_message)) as scorer:
        scanner = make_scanner(config, repository, manifest, scorer)
        measured, refusal = _sampled(scanner, totals, sample_rows)
        return ScanPlan(
            files=_files_found(manifest),
            rows=totals.rows,
            at_least=totals.at_least,
            shards=totals.shards,
            columns=_columns(manifest),
            notes=manifest.notes,
            model=scorer.contract.name,
            precision=scorer.precision,
            notice=scorer.contract.notice,
            threads=config.threads,
            sample=measured.figures if measured else None,
            refusal=refusal,
            estimate=_estimate(scanner, totals, measured, price_per_hour) if measured else None,
        )


def _sampled(
    scanner: ShardScanner, totals: PlanTotals, sample_rows: int
) -> tuple[Measured | None, str | None]:
    """Return what the sample shows, or the error at which the scan would stop."""
    try:
        segments = sample_segments(scanner.manifest.files, sample_rows, totals.planned_rows)
        return (measure(scanner, segments) if segments else None), None
    except AigidError as error:
        return None, str(error)


def _files_found(manifest: Manifest) -> tuple[FilesFound, ...]:
    """Return the files by kind, in the manifest's order. A folder's images are one file each."""
    found: dict[Kind, FilesFound] = {}
    for file in manifest.files:
        before = found.get(file.kind, FilesFound(file.kind.value, 0, 0, False, 0))
        are_images = file.kind is Kind.IMAGES
        found[file.kind] = FilesFound(
            before.kind,
            before.files + (file.rows if are_images else 1),
            before.rows + file.rows,
            before.at_least or not file.has_known_rows,
            None if are_images else (before.bytes or 0) + file.size_bytes,
        )
    return tuple(found.values())


def _columns(manifest: Manifest) -> PlannedColumns:
    columns = manifest.columns
    read = {*columns.names, *(name for pair in columns.others for name in pair)}
    names = dict.fromkeys(name for schema in manifest.files.schemas for name in schema.names)
    return PlannedColumns(
        columns.image,
        columns.prompt,
        columns.keep,
        columns.others,
        tuple(name for name in names if name not in read),
    )


def _estimate(
    scanner: ShardScanner, totals: PlanTotals, measured: Measured, price_per_hour: float | None
) -> Estimate | None:
    sample = measured.figures
    if not sample.scored:
        return None
    rows = totals.rows + _uncounted_rows(scanner.manifest, sample.image_bytes)
    seconds = rows * measured.seconds_per_row / scanner.threads
    memory, most = _memory_bytes(scanner, sample.image_bytes or 0)
    return Estimate(
        rows=rows,
        rows_per_s=rows / seconds,
        seconds=seconds,
        memory_mib=memory / _MIB,
        most_memory_mib=most / _MIB,
        results_bytes=_results_bytes(measured.table, rows, totals.shards),
        cost=None if price_per_hour is None else seconds / 3600 * price_per_hour,
    )


def _uncounted_rows(manifest: Manifest, image_bytes: float | None) -> int:
    """Return how many rows the tars that were not counted may have, by their bytes."""
    size = sum(file.size_bytes for file in manifest.files if not file.has_known_rows)
    return max(1, round(size / ((image_bytes or 0) + _TAR_ROW_BYTES))) if size else 0


def _memory_bytes(scanner: ShardScanner, image_bytes: float) -> tuple[int, int]:
    """Return the peak memory for images like the sample's, and the most that any images need.

    Both begin with the peak of this process, which has the model and has scanned the sample.
    """
    threads, batch_rows = scanner.threads, scanner.batch_rows
    height, width, channels = scanner.scorer.contract.image.shape
    base = round(RunFigures.of(0, 0).peak_memory_mib * _MIB)
    base += threads * batch_rows * height * width * channels
    if scanner.manifest.columns.keep:
        base += 2 * SHARD_KEPT_BYTES
    most_waiting = (threads + 2) * WAITING_BYTES
    batches = threads * _BATCHES_PER_THREAD + len(scanner.scorer.contract.prompt.buckets)
    waiting = min(most_waiting, round(batches * batch_rows * image_bytes))
    return base + waiting, base + most_waiting + threads * SMALL_BYTES + LARGE_ROWS.total_bytes


def _results_bytes(table: pa.Table, rows: int, shards: int) -> int:
    """Return the size of all result files: of what each has once, and of their further rows."""
    once = _file_bytes(table.slice(0, 1))
    further = len(table) - 1
    row = (_file_bytes(table) - once) / further if further else table.nbytes
    return round(once * shards + row * max(0, rows - shards))


def _file_bytes(table: pa.Table) -> int:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    return int(buffer.tell())
