"""The columns of a result file, and the rows of a shard as a table of them."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aigid.answers import ImageHash
from aigid.decisions import VERDICTS, decide_ai, decide_source, decide_verdict
from aigid.errors import ResultsError, UsageError
from aigid.evidence import RowEvidence, Says
from aigid.fetch import ImageReference
from aigid.manifest import Manifest
from aigid.progress import RowsDone
from aigid.records import ErrorCode, RowError, source_names, without_secrets
from aigid.results.file_metadata import ScoredBy, file_metadata
from aigid.shards import SHARD_KEPT_BYTES, Shard

COLUMNS = (
    "manifest",
    "row",
    "image",
    "p_ai",
    "is_ai",
    "source",
    "p_source",
    "known_score",
    "verdict",
    "error",
    "error_detail",
)
"""The columns of every result file but for kept ones."""

_CODES = list(ErrorCode)
_SAYS = list(Says)
_TEXT_KEY = pa.dictionary(pa.int32(), pa.string())
# A hostile manifest may have a file's content in place of its path.
_REFERENCE_CHARACTERS = 4096
# Four times what the plan aims at.
_MOST_KEPT_BYTES = 4 * SHARD_KEPT_BYTES


@dataclass(frozen=True)
class OptionalColumns:
    """Which columns result files have beside those of every scan."""

    evidence: bool = False
    hash: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        evidence = ("evidence", "evidence_detail") if self.evidence else ()
        return (*evidence, *(("hash", "perceptual_hash") if self.hash else ()))

    @property
    def counted(self) -> list[str]:
        """The names of the columns whose values the summary counts."""
        return ["source", "verdict", *(["evidence"] if self.evidence else []), "error"]


@dataclass
class ShardAnswers:
    """What a scan knows of a shard so far: columns from the manifest, and answers by position.

    Probabilities are NaN until the row is scored; `errors` has the rows that cannot be. `evidence`
    and `hashes` have the images that could be fetched, where `optional` has their columns. `done`
    is what was done since `began`.
    `rows` were read so far, and `segment_rows` of each segment. Where rows of a result file are
    scanned again, `retried` has their positions in order, and `others_sha256` is a hash of the
    other rows of that file.
    """

    shard: Shard
    p_ai: npt.NDArray[np.float32]
    p_source: npt.NDArray[np.float32]
    known_score: npt.NDArray[np.float32]
    segment_rows: list[int] = field(default_factory=list)
    images: list[pa.Array] = field(default_factory=list)
    kept: list[pa.RecordBatch] = field(default_factory=list)
    errors: dict[int, RowError] = field(default_factory=dict)
    rows: int = 0
    kept_bytes: int = 0
    optional: OptionalColumns = OptionalColumns()
    evidence: dict[int, RowEvidence] = field(default_factory=dict)
    hashes: dict[int, ImageHash] = field(default_factory=dict)
    retried: npt.NDArray[np.int64] | None = None
    others_sha256: str = ""
    done: RowsDone = RowsDone()
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, shard: Shard, labels: int, optional: OptionalColumns = OptionalColumns()) -> Self:
        """Return the answers of a shard without any, for a model with so many labels."""
        return cls(
            shard,
            np.full(shard.rows, np.nan, np.float32),
            np.full((shard.rows, labels), np.nan, np.float32),
            np.full(shard.rows, np.nan, np.float32),
            optional=optional,
        )

    def begin_segment(self) -> None:
        """Take the rows that follow as those of the next segment."""
        self.segment_rows.append(0)

    def add_rows(self, images: pa.Array, kept: pa.RecordBatch) -> None:
        """Take over the columns of some rows, which are the next ones of their segment.

        Raises ResultsError where the kept columns would need too much memory. The plan cuts shards
        by these columns' bytes, but it knows neither which rows have them, nor a dictionary's: its
        value is there once in the file, and here for each row.
        """
        self.images.append(images)
        self.kept.append(kept)
        self.kept_bytes += kept.nbytes
        if self.kept_bytes > _MOST_KEPT_BYTES:
            raise self._too_much(kept)
        self.rows += len(images)
        self.segment_rows[-1] += len(images)
        if self.rows > len(self.p_ai) and not self.shard.has_known_rows:
            self._grow(max(2 * len(self.p_ai), self.rows))

    def to_scan(self, count: int) -> Sequence[int]:
        """Return which of the next `count` rows are scanned: all, or those that are retried."""
        if self.retried is None:
            return range(count)
        begin, end = np.searchsorted(self.retried, [self.rows, self.rows + count])
        return [int(position) - self.rows for position in self.retried[begin:end]]

    def take_earlier(self, table: pa.Table, errors: Mapping[int, RowError]) -> None:
        """Take the answers of a result file, whose failed rows have these errors."""
        scored = np.ones(len(table), bool)
        scored[list(errors)] = False
        self._grow(max(len(table), len(self.p_ai)))
        positions = np.flatnonzero(scored)
        self.p_ai[positions] = table.column("p_ai").drop_null()
        self.known_score[positions] = table.column("known_score").drop_null()
        of_labels = np.asarray(table.column("p_source").combine_chunks().flatten())
        self.p_source[positions] = of_labels.reshape(-1, self.p_source.shape[1])
        self.errors.update(errors)
        if self.optional.evidence:
            self.evidence.update(_evidence_of(table))
        if self.optional.hash:
            self.hashes.update(_hashes_of(table))

    def _too_much(self, last: pa.RecordBatch) -> ResultsError:
        column = max(last.schema.names, key=lambda name: last.column(name).nbytes)
        first, rows = self.shard.segments[0], sum(map(len, self.kept))
        return ResultsError(
            f"{first.file.path}: the kept columns, of them most {column}, have "
            f"{self.kept_bytes >> 20} MiB in {rows} rows from row {first.start} on; a result file "
            f"holds at most {_MOST_KEPT_BYTES >> 20} MiB: leave it out of `keep`, or lower "
            "`shard_rows`"
        )

    def scores(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Return `p_ai`, `p_source` and `known_score` of the rows."""
        return self.p_ai[: self.rows], self.p_source[: self.rows], self.known_score[: self.rows]

    def _grow(self, rows: int) -> None:
        more = rows - len(self.p_ai)
        self.p_ai = np.pad(self.p_ai, (0, more), constant_values=np.nan)
        self.p_source = np.pad(self.p_source, ((0, more), (0, 0)), constant_values=np.nan)
        self.known_score = np.pad(self.known_score, (0, more), constant_values=np.nan)


@dataclass(frozen=True)
class ScannedShard:
    """A shard's result rows, what was done for them, and the seconds from its first row on."""

    shard: Shard
    table: pa.Table
    done: RowsDone
    seconds: float


def results_schema(
    keep_schema: pa.Schema, labels: int, optional: OptionalColumns = OptionalColumns()
) -> pa.Schema:
    """Return the columns of a result file, for a model with so many labels.

    Raises UsageError as `check_kept_columns` does.
    """
    check_kept_columns(keep_schema, optional)
    before = [
        pa.field("manifest", _TEXT_KEY),
        pa.field("row", pa.int64()),
        pa.field("image", pa.string()),
    ]
    kept = [pa.field(column.name, column.type) for column in keep_schema]
    after = [
        pa.field("p_ai", pa.float32()),
        pa.field("is_ai", pa.bool_()),
        pa.field("source", _TEXT_KEY),
        pa.field("p_source", pa.list_(pa.float32(), labels)),
        pa.field("known_score", pa.float32()),
        pa.field("verdict", _TEXT_KEY),
    ]
    optional_fields = [
        pa.field("evidence", _TEXT_KEY),
        pa.field("evidence_detail", pa.string()),
        pa.field("hash", pa.string()),
        pa.field("perceptual_hash", pa.uint64()),
    ]
    last = [pa.field("error", _TEXT_KEY), pa.field("error_detail", pa.string())]
    chosen = [column for column in optional_fields if column.name in optional.names]
    return pa.schema([*before, *kept, *after, *chosen, *last])


def column_names(keep: Iterable[str], optional: OptionalColumns) -> list[str]:
    """Return the names of a result file's columns, in order; `keep` are those of the manifest."""
    return [*COLUMNS[:3], *keep, *COLUMNS[3:-2], *optional.names, *COLUMNS[-2:]]


def check_kept_columns(
    keep_schema: pa.Schema, optional: OptionalColumns = OptionalColumns()
) -> None:
    """Raise UsageError where a kept column has the name of one that the result files have."""
    taken = sorted(set(keep_schema.names) & {*COLUMNS, *optional.names})
    if taken:
        raise UsageError(
            f"`keep` {', '.join(taken)}: every result file has a column of that name; "
            "leave it out, or rename it in the manifest"
        )


def image_column(references: Iterable[ImageReference]) -> pa.Array:
    """Return the column `image` of some rows: paths and URIs without secrets.

    It is null for inline bytes and for null images.
    """
    return pa.array(map(_public_reference, references), pa.string())


def result_table(manifest: Manifest, answers: ShardAnswers, scored_by: ScoredBy) -> pa.Table:
    """Return the result rows of a shard: one for each manifest row, in order, with metadata.

    Raises ResultsError where there is a row too many or too few, or a row with neither a
    probability nor an error.
    """
    shard, labels = answers.shard, len(scored_by.labels)
    schema = results_schema(manifest.keep_schema, labels, answers.optional)
    rows = shard.rows if shard.has_known_rows else answers.rows
    columns = [
        *_places(answers),
        pa.chunked_array(answers.images, pa.string()),
        *pa.Table.from_batches(answers.kept, schema=manifest.keep_schema).columns,
        *_decisions(answers, scored_by),
        *(_evidence(answers.evidence, rows) if answers.optional.evidence else ()),
        *(_hashes(answers.hashes, rows) if answers.optional.hash else ()),
        *_errors(answers.errors, rows),
    ]
    lengths = sorted({len(column) for column in columns})
    if lengths != [rows]:
        raise ResultsError(
            f"shard {shard.index}: its columns have {lengths} rows, but the manifest {rows}: "
            "not committed"
        )
    table = pa.Table.from_arrays(columns, schema=schema)
    return table.replace_schema_metadata(file_metadata(table, shard.index, scored_by))


def _public_reference(image: ImageReference) -> str | None:
    if image.data is not None or image.path is None:
        return None
    text = without_secrets(image.path)
    too_long = len(text) > _REFERENCE_CHARACTERS
    return f"{text[:_REFERENCE_CHARACTERS]}..." if too_long else text


def _places(answers: ShardAnswers) -> tuple[pa.Array, pa.Array]:
    """Return the columns `manifest` and `row`."""
    parts = list(zip(answers.shard.segments, answers.segment_rows, strict=True))
    names = list(dict.fromkeys(segment.file.path for segment, _ in parts))
    files = np.repeat(
        np.array([names.index(segment.file.path) for segment, _ in parts], dtype=np.int32),
        [rows for _, rows in parts],
    )
    starts = [segment.file.first_row + segment.start for segment, _ in parts]
    rows = np.concatenate(
        [
            np.arange(start, start + rows, dtype=np.int64)
            for start, (_, rows) in zip(starts, parts, strict=True)
        ]
    )
    return pa.DictionaryArray.from_arrays(pa.array(files), names), pa.array(rows)


def _decisions(answers: ShardAnswers, scored_by: ScoredBy) -> list[pa.Array]:
    """Return the columns `p_ai`, `is_ai`, `source`, `p_source`, `known_score` and `verdict`."""
    p_ai, p_source, known_score = answers.scores()
    failed = np.zeros(len(p_ai), dtype=bool)
    failed[list(answers.errors)] = True
    lost = int(np.isnan(p_ai[~failed]).sum())
    if lost:
        raise ResultsError(
            f"shard {answers.shard.index}: {lost} of {len(p_ai)} rows have neither a "
            "probability nor an error: not committed"
        )
    decided = decision_columns(p_ai, p_source, known_score, failed, scored_by)
    return [
        pa.array(p_ai, pa.float32(), mask=failed),
        decided["is_ai"],
        decided["source"],
        pa.FixedSizeListArray.from_arrays(
            pa.array(p_source.reshape(-1)), len(scored_by.labels), mask=pa.array(failed)
        ),
        pa.array(known_score, pa.float32(), mask=failed),
        decided["verdict"],
    ]


def decision_columns(
    p_ai: npt.NDArray[np.float32],
    p_source: npt.NDArray[np.float32],
    known_score: npt.NDArray[np.float32],
    failed: npt.NDArray[np.bool_],
    scored_by: ScoredBy,
) -> dict[str, pa.Array]:
    """Return the columns that follow from scores, by name; they are null in `failed` rows."""
    is_ai = decide_ai(p_ai, scored_by.threshold)
    source = decide_source(is_ai, p_source, known_score, scored_by.open_set)
    verdict = decide_verdict(p_ai, scored_by.verdicts)
    return {
        "is_ai": pa.array(is_ai, pa.bool_(), mask=failed),
        "source": pa.DictionaryArray.from_arrays(
            pa.array(source, pa.int32(), mask=failed), list(source_names(scored_by.labels))
        ),
        "verdict": pa.DictionaryArray.from_arrays(
            pa.array(verdict, pa.int32(), mask=failed), [one.value for one in VERDICTS]
        ),
    }


def _evidence(evidence: Mapping[int, RowEvidence], rows: int) -> tuple[pa.Array, pa.Array]:
    """Return the columns `evidence` and `evidence_detail`."""
    found = [evidence.get(position) for position in range(rows)]
    says = [None if one is None else _SAYS.index(one.says) for one in found]
    details = [None if one is None else one.detail for one in found]
    return _from_names(says, _SAYS), pa.array(details, pa.string())


def _hashes(hashes: Mapping[int, ImageHash], rows: int) -> tuple[pa.Array, pa.Array]:
    """Return the columns `hash` and `perceptual_hash`."""
    found = [hashes.get(position) for position in range(rows)]
    return (
        pa.array([None if one is None else one.sha256.hex() for one in found], pa.string()),
        pa.array([None if one is None else one.perceptual for one in found], pa.uint64()),
    )


def _hashes_of(table: pa.Table) -> Iterator[tuple[int, ImageHash]]:
    """Yield the positions of a result file's rows that have hashes, and the hashes."""
    found = table.column("hash").to_pylist()
    perceptual = table.column("perceptual_hash").to_pylist()
    for position, (sha256, one) in enumerate(zip(found, perceptual, strict=True)):
        if sha256 is not None:
            yield position, ImageHash(bytes.fromhex(sha256), one)


def _evidence_of(table: pa.Table) -> Iterator[tuple[int, RowEvidence]]:
    """Yield the positions of a result file's rows that have evidence, and the evidence."""
    found = table.column("evidence").to_pylist()
    details = table.column("evidence_detail").to_pylist()
    for position, (says, detail) in enumerate(zip(found, details, strict=True)):
        if says is not None:
            yield position, RowEvidence(Says(says), detail)


def _from_names(indexes: Sequence[int | None], names: Sequence[str]) -> pa.DictionaryArray:
    """Return a column of some of these names, which are enumerated."""
    return pa.DictionaryArray.from_arrays(
        pa.array(indexes, pa.int32()), [str(name) for name in names]
    )


def _errors(errors: Mapping[int, RowError], rows: int) -> tuple[pa.Array, pa.Array]:
    """Return the columns `error` and `error_detail`."""
    found = [errors.get(position) for position in range(rows)] if errors else [None] * rows
    codes = [None if error is None else _CODES.index(error.code) for error in found]
    details = [None if error is None else error.detail for error in found]
    return _from_names(codes, _CODES), pa.array(details, pa.string())
