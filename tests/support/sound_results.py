"""Results folders of finished scans, made without scanning."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from aigid.manifest import Manifest
from aigid.records import ErrorCode, RowError, source_names
from aigid.results import (
    SCAN_FORMAT,
    InputTotals,
    ModelIdentity,
    ResultsFolder,
    RunFigures,
    ScanSummary,
    ScoredBy,
    count_results,
    open_results,
    result_table,
)
from aigid.shards import PlanTotals, Shard, plan_shards
from aigid.sources import Columns, Kind, ManifestFile, ManifestFiles
from support.result_tables import DIGEST, SCAN, SCORED_BY, answers_of, manifest_of


def manifest_with_tars(files: Mapping[str, int], tars: Mapping[str, int]) -> Manifest:
    """A manifest of Parquet files with so many rows, and of tars whose rows no plan knows."""
    manifest = manifest_of(files)
    more = [
        ManifestFile(name, 26_000 * rows, (), DIGEST, kind=Kind.TAR) for name, rows in tars.items()
    ]
    return replace(manifest, files=ManifestFiles([*manifest.files, *more]))


def sound_results(
    out: Path | str,
    manifest: Manifest,
    *,
    shard_rows: int = 3,
    limit: int | None = None,
    tar_rows: Mapping[str, int] | None = None,
    error_share: float = 0.2,
    seed: int = 0,
    scored_by: ScoredBy = SCORED_BY,
    finished: bool = True,
    paths: tuple[str, ...] = SCAN.manifests,
) -> ResultsFolder:
    """Make the results folder of a scan, as `run_scan` does, and return it."""
    results = open_results(str(out))
    random = np.random.default_rng(seed)
    plan = list(plan_shards(manifest.files, shard_rows, limit))
    with results.open():
        totals = PlanTotals.of(plan, set())
        columns = replace(Columns("image", None), keep=manifest.columns.keep)
        verdicts = scored_by.verdicts
        settings = replace(
            SCAN.settings,
            columns=columns,
            threshold=scored_by.threshold,
            mode=verdicts.mode.value,
            ai_from=verdicts.ai_from,
            real_below=verdicts.real_below,
            shard_rows=shard_rows,
            limit=limit,
        )
        record = replace(
            SCAN,
            manifests=paths,
            input=InputTotals(len(manifest.files), totals.planned_rows),
            settings=settings,
            shards=len(plan),
        )
        results.claim(record, manifest.files)
        for shard in plan:
            table = _table(manifest, shard, tar_rows or {}, error_share, random, scored_by)
            results.commit(shard.index, table)
        if finished:
            listed = results.new_list()
            counts = count_results(
                results, plan, source_names(scored_by.labels), on_shard=listed.append
            )
            results.write_shards(listed)
            model = ModelIdentity(scored_by.model, scored_by.fingerprint, "")
            figures = RunFigures.of(counts.rows, 1.0)
            decided = {"threshold": scored_by.threshold, "mode": verdicts.mode.value}
            summary = ScanSummary(SCAN_FORMAT, model, run=figures, **decided, **vars(counts))
            results.write_summary(summary)
    return results


def _table(
    manifest: Manifest,
    shard: Shard,
    tar_rows: Mapping[str, int],
    error_share: float,
    random: np.random.Generator,
    scored_by: ScoredBy,
) -> pa.Table:
    segment_rows = [
        segment.rows if segment.stop is not None else tar_rows[segment.file.path]
        for segment in shard.segments
    ]
    rows = sum(segment_rows)
    failed = np.flatnonzero(random.random(rows) < error_share)
    p_ai = random.random(rows)
    p_ai[failed] = np.nan
    codes = list(ErrorCode)
    errors = {int(row): RowError(codes[row % len(codes)], f"row {row}") for row in failed}
    kept = None
    if manifest.columns.keep:
        kept = pa.table(
            {
                name: pa.array(range(rows)).cast(manifest.schema.field(name).type)
                for name in manifest.columns.keep
            }
        )
    answers = answers_of(shard, p_ai.tolist(), errors, kept)
    answers.segment_rows = segment_rows
    return result_table(manifest, answers, scored_by)
