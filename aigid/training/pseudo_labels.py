"""Pseudo-labels: the pairs of a finished scan that both heads are confident about, as a manifest.

The new manifest is labelled, and holds the images themselves.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.bounded_map import bounded_map
from aigid.config import ScanConfig
from aigid.errors import ResultsError, UsageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image, image_references
from aigid.manifest import Manifest, open_manifest, read_segment, texts
from aigid.records import RowFailure
from aigid.results import ResultsFolder, open_results
from aigid.scan_job import fetch_policy
from aigid.shards import Shard, plan_shards
from aigid.storage import (
    Location,
    exists,
    explain_failure,
    locate,
    make_folder,
    read_bytes,
    write_atomic,
)
from aigid.training.labelled import has_labels, is_pseudo_labelled, label_columns
from aigid.training.pseudo_label_record import (
    RECORD_FILE,
    KeptCounter,
    PseudoLabelOrigin,
    PseudoLabelRecord,
)
from aigid.training.pseudo_selection import Selection, SelectionConfig

# Rows of one file of the new manifest. They are held in memory with their images.
_PART_ROWS = 500
# Images in object stores and on the web take long to fetch.
_FETCH_THREADS = 16
_SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("prompt", pa.string()),
        ("Label_A", pa.int32()),
        ("Label_B", pa.int32()),
        ("p_ai", pa.float32()),
        ("p_generator", pa.float32()),
    ]
)


class _Pair(NamedTuple):
    """One row of the scanned manifest: `truth` is its known Label_B, or None."""

    position: int
    image: ImageReference
    prompt: str | None
    truth: int | None


def write_pseudo_labels(
    config: ScanConfig, labels: str, selection: SelectionConfig
) -> PseudoLabelRecord:
    """Write the selected pairs of a finished scan into the folder or URI `labels`.

    A record of what was kept is written beside them and returned. Raises UsageError where the
    folder holds pseudo-labels of another scan or selection, and ResultsError where the scan is not
    finished.
    """
    results, folder = open_results(config.out), locate(labels)
    summary = results.read_summary()
    if summary is None:
        raise ResultsError(f"{config.out}: the scan is not finished: run it again first")
    origin = PseudoLabelOrigin(config.out, summary.model, selection)
    _claim(folder, origin)
    manifest = _open(config, results)
    chosen = Selection(
        selection, lambda: plan_shards(manifest.files, config.shard_rows, config.limit), results
    )
    counter, policy = KeptCounter(), fetch_policy(config)
    for shard in chosen.shards():
        _write_shard(folder, shard, _kept_rows(chosen, manifest, shard, counter, policy))
    record = counter.record(origin, summary.rows)
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
                "give another folder as `labels`"
            )
    _write_json(folder, origin.to_json())


def _open(config: ScanConfig, results: ResultsFolder) -> Manifest:
    """Open the scanned manifest, with its label columns where it has some that are known."""
    manifest = open_manifest(
        config.paths, config.columns, known=results.recorded_files(), limit=config.limit
    )
    if not has_labels(manifest) or is_pseudo_labelled(manifest):
        return manifest
    columns = replace(config.columns, keep=label_columns(manifest))
    # Not with the recorded files: the scan did not check that every file has the label columns.
    return open_manifest(config.paths, columns, limit=config.limit)


def _write_shard(folder: Location, shard: Shard, rows: Iterator[dict[str, Any]]) -> None:
    for part in count():
        some = list(islice(rows, _PART_ROWS))
        if not some:
            return
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(some, schema=_SCHEMA), buffer, compression="none")
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
    selection: Selection,
    manifest: Manifest,
    shard: Shard,
    counter: KeptCounter,
    policy: FetchPolicy,
) -> Iterator[dict[str, Any]]:
    """Yield the kept rows of a shard with their images.

    Raises ResultsError where an image can no longer be read.
    """
    kept = selection.kept_rows(shard)

    def with_data(pair: _Pair) -> tuple[_Pair, bytes]:
        try:
            return pair, fetch_image(pair.image, policy)
        except RowFailure as failure:
            raise ResultsError(
                f"an image that was scanned can no longer be read: {failure}"
            ) from failure

    wanted = (pair for pair in _pairs(manifest, shard) if pair.position in kept)
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


def _pairs(manifest: Manifest, shard: Shard) -> Iterator[_Pair]:
    columns, position = manifest.columns, 0
    labelled = has_labels(manifest) and columns.keep == label_columns(manifest)
    for segment in shard.segments:
        for rows in read_segment(manifest, segment):
            prompts = texts(rows.column(columns.prompt)) if columns.prompt else [None] * len(rows)
            truths = rows.column(columns.keep[1]).to_pylist() if labelled else [None] * len(rows)
            for image, prompt, truth in zip(
                image_references(rows.column(columns.image)), prompts, truths, strict=True
            ):
                yield _Pair(position, image, prompt, truth)
                position += 1
