"""Results folders with any values in them, beside a manifest of their images, without a scan."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.manifest import open_manifest
from aigid.records import DEFAULT_LABELS
from aigid.results import (
    InputTotals,
    ModelIdentity,
    ScanModel,
    ScanRecord,
    open_results,
    scorer_metadata,
)
from aigid.shards import Shard, plan_shards
from aigid.sources import ColumnChoice
from support.manifests import HF_IMAGE, encoded_image
from support.result_tables import SCAN, SUMMARY

_KEY = pa.dictionary(pa.int32(), pa.string())
FINDING = {
    "kind": "comfyui",
    "says": "ai",
    "source": "ComfyUI",
    "strength": "metadata",
    "found_in": "PNG prompt",
    "details": {"model": "a.safetensors", "steps": "20"},
}
CAMERA = FINDING | {"kind": "camera", "says": "camera", "source": "X100", "details": {}}
CAMERA["strength"] = "camera_exif"
CONTRADICTION = FINDING | {"kind": "contradiction", "says": "none"}


@dataclass(frozen=True)
class ResultRow:
    """A row of a manifest, and what a scan says of it. An `image` is bytes or a path."""

    p_ai: float | None = 0.9
    source: str | None = None
    verdict: str | None = None
    image: bytes | str | None = None
    prompt: str | None = "a red car"
    kept: Mapping[str, Any] = field(default_factory=dict)
    evidence: str | None = "none"
    findings: Sequence[Mapping[str, Any]] = ()
    detail: str | None = None
    hash: str | None = None
    perceptual_hash: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Made:
    """What `report_results` is to make: the names of a scan, and the columns it writes."""

    model: str = "tiny"
    fingerprint: str = "f1"
    notice: str = "not for real decisions"
    evidence: bool = False
    hashes: bool = False
    shard_rows: int = 10_000
    row_group_rows: int = 10_000
    manifest: str = "manifest.parquet"
    finished: bool = True


def report_results(folder: Path, rows: Sequence[ResultRow], made: Made = Made()) -> Path:
    """Write a manifest of these rows and the results of its scan; return the results folder."""
    keep = tuple(rows[0].kept) if rows else ()
    paths = [str(write_manifest(folder / made.manifest, rows, made.row_group_rows))]
    manifest = open_manifest(paths, ColumnChoice("Image", "Caption", keep))
    plan = list(plan_shards(manifest.files, made.shard_rows))
    settings = replace(SCAN.settings, columns=manifest.columns, shard_rows=made.shard_rows)
    record = replace(
        _scan_of(made), manifests=tuple(paths), input=InputTotals(1, len(rows)),
        settings=settings, shards=len(plan),
    )  # fmt: skip
    results = open_results(str(folder / "results"))
    with results.open():
        results.claim(record, manifest.files)
        for shard in plan if made.finished else plan[:1]:
            results.commit(shard.index, result_table(shard, rows, made))
        if made.finished:
            failed = [row for row in rows if row.error]
            identity = ModelIdentity(made.model, made.fingerprint, made.notice)
            summary = replace(
                SUMMARY, model=identity, rows=len(rows),
                scored=len(rows) - len(failed), shards=len(plan), errors={}, error_examples={},
            )  # fmt: skip
            results.write_summary(summary)
    return folder / "results"


def write_manifest(path: Path, rows: Sequence[ResultRow], row_group_rows: int = 10_000) -> Path:
    """Write the manifest of rows: inline bytes, or paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"bytes": None, "path": row.image}
        if isinstance(row.image, str)
        else {"bytes": encoded_image(place) if row.image is None else row.image, "path": None}
        for place, row in enumerate(rows)
    ]
    columns: dict[str, Any] = {
        "Image": pa.array(images, HF_IMAGE),
        "Caption": pa.array([row.prompt for row in rows], pa.string()),
    }
    for name in rows[0].kept if rows else ():
        columns[name] = pa.array([row.kept[name] for row in rows])
    pq.write_table(pa.table(columns), path, row_group_size=row_group_rows)
    return path


def result_table(shard: Shard, rows: Sequence[ResultRow], made: Made) -> pa.Table:
    """Return the result rows of a shard, in the order of columns that scans have."""
    (segment,) = shard.segments
    mine = rows[segment.start : segment.stop]
    path = segment.file.path
    columns: dict[str, pa.Array] = {
        "manifest": pa.array([path] * len(mine)).cast(_KEY),
        "row": pa.array(range(segment.start, segment.start + len(mine))),
        "image": pa.array([_shown(row) for row in mine], pa.string()),
    }
    for name in mine[0].kept:
        columns[name] = pa.array([row.kept[name] for row in mine])
    is_ai = [None if row.p_ai is None else row.p_ai >= 0.5 for row in mine]
    columns |= {
        "p_ai": pa.array([row.p_ai for row in mine], pa.float32()),
        "is_ai": pa.array(is_ai, pa.bool_()),
        "source": pa.array([_source(row) for row in mine], pa.string()).cast(_KEY),
        "known_score": pa.array([row.p_ai for row in mine], pa.float32()),
        "verdict": pa.array([_verdict(row) for row in mine], pa.string()).cast(_KEY),
    }
    if made.evidence:
        columns["evidence"] = pa.array([row.evidence for row in mine], pa.string()).cast(_KEY)
        columns["evidence_detail"] = pa.array([_detail(row) for row in mine], pa.string())
    if made.hashes:
        columns["hash"] = pa.array([row.hash for row in mine], pa.string())
        values = [row.perceptual_hash for row in mine]
        columns["perceptual_hash"] = pa.array(values, pa.uint64())
    columns["error"] = pa.array([row.error for row in mine], pa.string()).cast(_KEY)
    columns["error_detail"] = pa.array([row.error for row in mine], pa.string())
    metadata = {"shard": str(shard.index), **scorer_metadata(_scan_of(made))}
    return pa.table(columns).replace_schema_metadata(
        {f"aigid.{name}": value for name, value in metadata.items()}
    )


def _scan_of(made: Made) -> ScanRecord:
    return replace(SCAN, model=ScanModel(made.model, made.fingerprint, "int8", DEFAULT_LABELS))


def _shown(row: ResultRow) -> str | None:
    return row.image if isinstance(row.image, str) else None


def _source(row: ResultRow) -> str | None:
    if row.p_ai is None:
        return None
    return row.source or ("sd21" if row.p_ai >= 0.5 else "real")


def _verdict(row: ResultRow) -> str | None:
    if row.p_ai is None:
        return None
    return row.verdict or ("ai" if row.p_ai >= 0.5 else "real")


def _detail(row: ResultRow) -> str | None:
    return row.detail or (json.dumps(list(row.findings)) if row.findings else None)
