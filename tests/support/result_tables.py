"""Small result tables and the records beside them, without a scan."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from aigid.decisions import VerdictRule
from aigid.fetch import ImageReference
from aigid.manifest import Manifest
from aigid.records import DEFAULT_LABELS, Mode, RowError
from aigid.results import (
    SCAN_FORMAT,
    ErrorExample,
    InputTotals,
    ModelIdentity,
    RunFigures,
    ScanModel,
    ScanRecord,
    ScanSettings,
    ScanSummary,
    ScoredBy,
    ShardAnswers,
    image_column,
    result_table,
)
from aigid.shards import Shard
from aigid.sources import Columns, ManifestFile, ManifestFiles, Segment

DIGEST = "ab" * 32
FILES = ManifestFiles([ManifestFile("m.parquet", 10, (9,), DIGEST, 5)])
BEST_GUESS = VerdictRule(Mode.BEST_GUESS, 0.5, 0.5)
SCORED_BY = ScoredBy("tiny", "f1", "int8", DEFAULT_LABELS, 0.5, BEST_GUESS)
SCAN = ScanRecord(
    format=SCAN_FORMAT,
    manifests=("m.parquet",),
    input=InputTotals(files=1, rows=3),
    model=ScanModel("tiny", "f1", "int8", DEFAULT_LABELS),
    settings=ScanSettings(
        columns=Columns("image", None),
        threshold=0.5,
        mode="best-guess",
        ai_from=0.5,
        real_below=0.5,
        limit=None,
        shard_rows=10_000,
        image_root=None,
        allow_outside_root=False,
        allow_private_addresses=False,
    ),
    shards=1,
    versions={"aigid": "0.1.0", "numpy": "2.0"},
)

SUMMARY = ScanSummary(
    format=SCAN_FORMAT,
    model=ModelIdentity("tiny", "f1", "not for real decisions"),
    threshold=0.5,
    mode="best-guess",
    shards=2,
    rows=6,
    scored=4,
    ai=1,
    verdicts={"ai": 1, "real": 3, "unsure": 0},
    sources={"real": 3, "sd21": 1},
    errors={"empty": 1, "missing": 1},
    error_rate=0.25,
    error_examples={
        "empty": ErrorExample("m.parquet", 4, None, "the image is null"),
        "missing": ErrorExample("m.parquet", 5, "é.png", "é.png: no such file"),
    },
    evidence=None,
    run=RunFigures(rows=6, seconds=1.5, rows_per_s=4.0, peak_memory_mib=100.0),
)


def manifest_of(
    files: Mapping[str, int], keep: Mapping[str, pa.DataType] | None = None
) -> Manifest:
    """A manifest of files with so many rows each, and kept columns of these types."""
    keep = keep or {}
    return Manifest(
        ManifestFiles(ManifestFile(name, 1000, (rows,), DIGEST) for name, rows in files.items()),
        Columns("image", None, tuple(keep)),
        pa.schema([("image", pa.string()), *keep.items()]),
    )


def answers_of(
    shard: Shard,
    p_ai: Sequence[float],
    errors: Mapping[int, RowError] | None = None,
    kept: pa.Table | None = None,
    paths: Sequence[str | None] | None = None,
) -> ShardAnswers:
    """A shard's answers, with another likeliest generator for each row."""
    p_source = np.zeros((len(p_ai), len(DEFAULT_LABELS)), np.float32)
    for row, value in enumerate(p_ai):
        p_source[row, 0] = 1 - value
        p_source[row, 1 + row % 5] = value
    images = [ImageReference(None, path) for path in paths or [None] * len(p_ai)]
    batches = kept.to_batches() if kept is not None else []
    return ShardAnswers(
        shard,
        np.array(p_ai, np.float32),
        p_source,
        np.full(len(p_ai), 0.75, np.float32),
        [segment.rows for segment in shard.segments],
        [image_column(images)],
        batches or [pa.RecordBatch.from_struct_array(pa.array([{}] * len(p_ai), pa.struct([])))],
        dict(errors or {}),
        len(p_ai),
    )


def small_table(
    p_ai: Sequence[float],
    errors: Mapping[int, RowError] | None = None,
    scored_by: ScoredBy = SCORED_BY,
    paths: Sequence[str | None] | None = None,
    index: int = 0,
) -> pa.Table:
    """The result rows of a shard of m.parquet with these probabilities and errors."""
    shard = Shard(index, (Segment(FILES[0], 0, len(p_ai)),))
    answers = answers_of(shard, p_ai, errors, paths=paths)
    return result_table(manifest_of({"m.parquet": len(p_ai)}), answers, scored_by)
