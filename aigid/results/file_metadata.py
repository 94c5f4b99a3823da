"""The metadata of a result file: which shard it is, what scored it, and a hash of its content."""

import json
from dataclasses import dataclass

import pyarrow as pa

from aigid.contract import OpenSet
from aigid.decisions import VerdictRule
from aigid.results.content_hash import content_sha256
from aigid.version import __version__

_PREFIX = "aigid."


@dataclass(frozen=True)
class ScoredBy:
    """The model that scored a shard, its labels, and what its decisions depend on."""

    model: str
    fingerprint: str
    precision: str
    labels: tuple[str, ...]
    threshold: float
    verdicts: VerdictRule
    open_set: OpenSet | None = None


def labels_of(table: pa.Table) -> tuple[tuple[str, ...], float | None]:
    """Return the labels of the model that scored a result file, and its open-set threshold."""
    metadata = table.schema.metadata
    labels = json.loads(metadata[f"{_PREFIX}labels".encode()])
    return tuple(labels), json.loads(metadata[f"{_PREFIX}open_set_threshold".encode()])


def decision_metadata(threshold: float, verdicts: VerdictRule) -> dict[str, str]:
    """Return what the metadata of a result file says of its decisions, without "aigid."."""
    return {
        "threshold": json.dumps(threshold),
        "mode": verdicts.mode.value,
        "ai_from": json.dumps(verdicts.ai_from),
        "real_below": json.dumps(verdicts.real_below),
    }


def file_metadata(table: pa.Table, shard_index: int, scored_by: ScoredBy) -> dict[str, str]:
    """Return the key-value metadata that a result file carries in its Parquet footer."""
    values = {
        "shard": str(shard_index),
        "content_sha256": content_sha256(table),
        "version": __version__,
        "model": scored_by.model,
        "fingerprint": scored_by.fingerprint,
        "precision": scored_by.precision,
        "labels": json.dumps(scored_by.labels),
        **decision_metadata(scored_by.threshold, scored_by.verdicts),
        "open_set_threshold": json.dumps(scored_by.open_set and scored_by.open_set.threshold),
    }
    return {f"{_PREFIX}{name}": value for name, value in values.items()}
