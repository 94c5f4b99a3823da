"""Pseudo-labels: the pairs of a finished scan that both heads are confident about, as a manifest.

The new manifest is labelled, and holds the images themselves.
"""

import json
import logging
from collections.abc import Iterator
from itertools import count, islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.bounded_map import bounded_map
from aigid.config import ScanConfig
from aigid.contract import find_model, load_contract
from aigid.errors import ManifestError, ResultsError, UsageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image, image_references
from aigid.manifest import Manifest, open_parquet, read_segment
from aigid.records import RowFailure
from aigid.results import open_results
from aigid.scan_job import fetch_policy
from aigid.shards import Shard, plan_shards
from aigid.sources import Segment, texts
from aigid.storage import (
    Location,
    exists,
    explain_failure,
    locate,
    make_folder,
    read_bytes,
    write_atomic,
)
from aigid.training.labelled import is_pseudo_labelled
from aigid.training.labels import (
    LEFT_OUT,
    LabelChoice,
    RowLabels,
    features_metadata,
    has_label_columns,
    read_labels,
)
from aigid.training.pseudo_label_record import (
    RECORD_FILE,
    KeptCounter,
    PseudoLabelOrigin,
    PseudoLabelRecord,
)
from aigid.training.pseudo_selection import Selection, SelectionConfig

_log = logging.getLogger(__name__)

# Rows of one file of the new manifest. They are held in memory with their images.
_PART_ROWS = 500
# Images in object stores and on the web take long to fetch.
_FETCH_THREADS = 16
_COLUMNS = {
    "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    "prompt": pa.string(),
    "Label_A": pa.int64(),
    "Label_B": pa.int64(),
    "p_ai": pa.float32(),
    "p_generator": pa.float32(),
}


class _Scanned(NamedTuple):
    """The scanned manifest, its labels where they are known, and how its images are fetched."""

    manifest: Manifest
    labels: RowLabels | None
    policy: FetchPolicy

    def truths(self, segment: Segment) -> list[int | None]:
        """Return the code of each row's known label, or None."""
        if self.labels is None:
            return [None] * segment.rows
        return [None if code == LEFT_OUT else code for code in self.labels.of(segment).tolist()]


class _Pair(NamedTuple):
    """One row of the scanned manifest: `truth` is the code of its known label, or None."""

    position: int
    image: ImageReference
    prompt: str | None
    truth: int | None


def check_known_labels(config: ScanConfig, choice: LabelChoice) -> None:
    """Raise ManifestError where label columns are chosen and invalid: before the scan, not after.

    Raises ContractError where there is no model.
    """
    if choice != LabelChoice():
        manifest = open_parquet(config.paths, config.columns, limit=config.limit)
        _known_labels(manifest, choice, load_contract(find_model(config.model)).labels)


def write_pseudo_labels(
    config: ScanConfig,
    pseudo: str,
    selection: SelectionConfig,
    choice: LabelChoice = LabelChoice(),
) -> PseudoLabelRecord:
    """Write the selected pairs of a finished scan into the folder or URI `pseudo`.

    A record of what was kept is written beside them and returned. It has the precision where the
    manifest has labels, in columns that `choice` names or that are found. Raises UsageError where
    the folder holds pseudo-labels of another scan or selection, or where chosen label columns are
    invalid, and ResultsError where the scan is not finished.
    """
    results, folder = open_results(config.out), locate(pseudo)
    summary = results.read_summary()
    if summary is None:
        raise ResultsError(f"{config.out}: the scan is not finished: run it again first")
    origin = PseudoLabelOrigin(config.out, summary.model, selection)
    manifest = open_parquet(
        config.paths, config.columns, known=results.recorded_files(), limit=config.limit
    )
    chosen = Selection(
        selection, lambda: plan_shards(manifest.files, config.shard_rows, config.limit), results
    )
    truth = _known_labels(manifest, choice, chosen.labels)
    _claim(folder, origin)
    counter, schema = KeptCounter(chosen.labels), _schema(chosen.labels)
    scanned = _Scanned(manifest, truth, fetch_policy(config))
    for shard in chosen.shards():
        rows = _kept_rows(chosen, scanned, shard, counter)
        _write_shard(folder, shard, rows, schema)
    record = counter.record(origin, summary.rows, chosen.others)
    _write_json(folder, record.to_json())
    return record


def _claim(folder: Location, origin: PseudoLabelOrigin) -> None:
    """Write the origin into a new folder, or check that the folder holds labels of the same one."""
    make_folder(folder)
    file = folder.child(RECORD_FILE)
    if exists(file):
        try:
            before = PseudoLabelOrigin.from_json(json.loads(read_bytes(file)))
        except ValueError as error:
            raise ResultsError(f"{file.text}: damaged: {error}; remove the folder") from error
        differing = before.differences(origin)
        if differing:
            raise UsageError(
                f"{folder.text}: holds pseudo-labels of another {', '.join(differing)}: "
                "give another folder as `pseudo`"
            )
    _write_json(folder, origin.to_json())


def _known_labels(
    manifest: Manifest, choice: LabelChoice, labels: tuple[str, ...]
) -> RowLabels | None:
    """Return the labels of a manifest that has some which are known, as those of the model.

    Columns that were not chosen but found may hold anything.
    """
    if is_pseudo_labelled(manifest) or not has_label_columns(manifest.schema, choice):
        return None
    try:
        return read_labels([manifest], choice, labels)
    except ManifestError as error:
        if choice != LabelChoice():
            raise
        _log.warning("not compared with known labels: %s", error)
        return None


def _schema(labels: tuple[str, ...]) -> pa.Schema:
    """Return the schema of the new manifest, in which the integers of labels have names."""
    features: dict[str, Any] = {
        name: {"dtype": "float32" if kind == pa.float32() else str(kind), "_type": "Value"}
        for name, kind in _COLUMNS.items()
    }
    features["image"] = {"_type": "Image"}
    features["Label_A"] = {"names": ["real", "ai"], "_type": "ClassLabel"}
    features["Label_B"] = {"names": list(labels), "_type": "ClassLabel"}
    return pa.schema(list(_COLUMNS.items()), features_metadata(features))


def _write_shard(
    folder: Location, shard: Shard, rows: Iterator[dict[str, Any]], schema: pa.Schema
) -> None:
    for part in count():
        some = list(islice(rows, _PART_ROWS))
        if not some:
            return
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(some, schema=schema), buffer, compression="none")
        _write(folder, f"pseudo-{shard.index:06d}-{part:03d}.parquet", buffer.getvalue())


def _write_json(folder: Location, values: dict[str, Any]) -> None:
    _write(folder, RECORD_FILE, (json.dumps(values, indent=2) + "\n").encode())


def _write(folder: Location, name: str, data: bytes | pa.Buffer) -> None:
    try:
        write_atomic(folder.child(name), data)
    except OSError as error:
        reason = explain_failure(error, folder)
        raise ResultsError(
            f"{folder.text}: cannot write {name}: {reason}; run the same command again"
        ) from error


def _kept_rows(
    selection: Selection, scanned: _Scanned, shard: Shard, counter: KeptCounter
) -> Iterator[dict[str, Any]]:
    """Yield the kept rows of a shard with their images.

    Raises ResultsError where an image can no longer be read.
    """
    kept = selection.kept_rows(shard)

    def with_data(pair: _Pair) -> tuple[_Pair, bytes]:
        try:
            return pair, fetch_image(pair.image, scanned.policy)
        except RowFailure as failure:
            raise ResultsError(
                f"an image that was scanned can no longer be read: {failure}"
            ) from failure

    wanted = (pair for pair in _pairs(scanned, shard) if pair.position in kept)
    for pair, data in bounded_map(with_data, wanted, _FETCH_THREADS):
        label_b, p_ai, p_generator = kept[pair.position]
        counter.add(label_b, pair.truth)
        yield {
            "image": {"bytes": data, "path": pair.image.path},
            "prompt": pair.prompt,
            "Label_A": int(label_b > 0),
            "Label_B": label_b,
            "p_ai": p_ai,
            "p_generator": p_generator,
        }


def _pairs(scanned: _Scanned, shard: Shard) -> Iterator[_Pair]:
    columns, position = scanned.manifest.columns, 0
    for segment in shard.segments:
        truths, start = scanned.truths(segment), 0
        for rows in read_segment(scanned.manifest, segment):
            prompts = texts(rows.column(columns.prompt)) if columns.prompt else [None] * len(rows)
            images = image_references(rows.column(columns.image))
            known = truths[start : start + len(rows)]
            start += len(rows)
            for image, prompt, truth in zip(images, prompts, known, strict=True):
                yield _Pair(position, image, prompt, truth)
                position += 1
