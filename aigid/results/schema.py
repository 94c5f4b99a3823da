"""The columns of a result file, and the rows of a shard as a table of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aigid.decisions import decide_ai, decide_source
from aigid.errors import ResultsError, UsageError
from aigid.fetch import ImageReference
from aigid.manifest import Manifest
from aigid.records import ErrorCode, RowError, source_names, without_secrets
from aigid.results.file_metadata import ScoredBy, file_metadata
from aigid.shards import Shard

RESERVED = (
    "manifest",
    "row",
    "image",
    "p_ai",
    "is_ai",
    "source",
    "p_source",
    "known_score",
    "error",
    "error_detail",
)
_CODES = list(ErrorCode)
_TEXT_KEY = pa.dictionary(pa.int32(), pa.string())
# A hostile manifest may have a file's content in place of its path.
_REFERENCE_CHARACTERS = 4096


@dataclass
class ShardAnswers:
    """What a scan knows of a shard so far: columns from the manifest, and answers by position.

    Probabilities are NaN until the row is scored; `errors` has the rows that cannot be.
    """

    shard: Shard
    p_ai: npt.NDArray[np.float32]
    p_source: npt.NDArray[np.float32]
    known_score: npt.NDArray[np.float32]
    images: list[pa.Array] = field(default_factory=list)
    kept: list[pa.RecordBatch] = field(default_factory=list)
    errors: dict[int, RowError] = field(default_factory=dict)

    @classmethod
    def of(cls, shard: Shard, labels: int) -> Self:
        """Return the answers of a shard without any, for a model with so many labels."""
        return cls(
            shard,
            np.full(shard.rows, np.nan, np.float32),
            np.full((shard.rows, labels), np.nan, np.float32),
            np.full(shard.rows, np.nan, np.float32),
        )


def results_schema(keep_schema: pa.Schema, labels: int) -> pa.Schema:
    """Return the columns of a result file, for a model with so many labels.

    Raises UsageError as `check_kept_columns` does.
    """
    check_kept_columns(keep_schema)
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
        pa.field("error", _TEXT_KEY),
        pa.field("error_detail", pa.string()),
    ]
    return pa.schema([*before, *kept, *after])


def check_kept_columns(keep_schema: pa.Schema) -> None:
    """Raise UsageError where a kept column has the name of one that every result file has."""
    taken = sorted(set(keep_schema.names) & set(RESERVED))
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
    shard, schema = answers.shard, results_schema(manifest.keep_schema, len(scored_by.labels))
    columns = [
        *_places(shard),
        pa.chunked_array(answers.images, pa.string()),
        *pa.Table.from_batches(answers.kept, schema=manifest.keep_schema).columns,
        *_decisions(answers, scored_by),
        *_errors(answers.errors, shard.rows),
    ]
    lengths = sorted({len(column) for column in columns})
    if lengths != [shard.rows]:
        raise ResultsError(
            f"shard {shard.index}: its columns have {lengths} rows, but the manifest {shard.rows}: "
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


def _places(shard: Shard) -> tuple[pa.Array, pa.Array]:
    """Return the columns `manifest` and `row`."""
    files = np.repeat(
        np.arange(len(shard.segments), dtype=np.int32), [segment.rows for segment in shard.segments]
    )
    rows = np.concatenate(
        [np.arange(segment.start, segment.stop, dtype=np.int64) for segment in shard.segments]
    )
    names = [segment.file.path for segment in shard.segments]
    return pa.DictionaryArray.from_arrays(pa.array(files), names), pa.array(rows)


def _decisions(answers: ShardAnswers, scored_by: ScoredBy) -> list[pa.Array]:
    """Return the columns `p_ai`, `is_ai`, `source`, `p_source` and `known_score`."""
    failed = np.zeros(answers.shard.rows, dtype=bool)
    failed[list(answers.errors)] = True
    lost = int(np.isnan(answers.p_ai[~failed]).sum())
    if lost:
        raise ResultsError(
            f"shard {answers.shard.index}: {lost} of {answers.shard.rows} rows have neither a "
            "probability nor an error: not committed"
        )
    is_ai = decide_ai(answers.p_ai, scored_by.threshold)
    source = decide_source(is_ai, answers.p_source, answers.known_score, scored_by.open_set)
    names, labels = list(source_names(scored_by.labels)), len(scored_by.labels)
    return [
        pa.array(answers.p_ai, pa.float32(), mask=failed),
        pa.array(is_ai, pa.bool_(), mask=failed),
        pa.DictionaryArray.from_arrays(pa.array(source, pa.int32(), mask=failed), names),
        pa.FixedSizeListArray.from_arrays(
            pa.array(answers.p_source.reshape(-1)), labels, mask=pa.array(failed)
        ),
        pa.array(answers.known_score, pa.float32(), mask=failed),
    ]


def _errors(errors: Mapping[int, RowError], rows: int) -> tuple[pa.Array, pa.Array]:
    """Return the columns `error` and `error_detail`."""
    found = [errors.get(position) for position in range(rows)] if errors else [None] * rows
    codes = [None if error is None else _CODES.index(error.code) for error in found]
    details = [None if error is None else error.detail for error in found]
    return (
        pa.DictionaryArray.from_arrays(
            pa.array(codes, pa.int32()), [code.value for code in _CODES]
        ),
        pa.array(details, pa.string()),
    )
