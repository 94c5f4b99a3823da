"""Pseudo-labels: the pairs of a scanned manifest about which both heads are sure, as a labelled manifest of their own."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import count, islice
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.bounded_map import bounded_map
from aigid.config import ScanConfig
from aigid.errors import ResultsError, UsageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image, image_references
from aigid.manifest import Manifest, open_manifest, read_segment, texts
from aigid.records import SOURCES, RowFailure
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
from aigid.training.pseudo_selection import Selection, SelectionConfig

RECORD_FILE = "pseudo_labels.json"
# Rows that are held with their images, and then a file of the manifest.
_PART_ROWS = 500
# Images of stores and the web are waited for.
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
    position: int
    image: ImageReference
    prompt: str | None
    truth: int | None


def write_pseudo_labels(config: ScanConfig, out: str, sure: SelectionConfig) -> dict[str, Any]:
    """Write the kept pairs of a finished scan into the folder `out`, and beside them what was kept; gives the latter.

    The images' bytes are written too: the new manifest needs nothing else. Raises UsageError where the folder holds those
    of another scan or threshold, and ResultsError where the scan is not finished.
    """
    results, folder = open_results(config.out), locate(out)
    summary = results.read_summary()
    if summary is None:
        raise ResultsError(f"{config.out}: the scan is not finished: run it again first")
    record: dict[str, Any] = {"scan": config.out, "model": asdict(summary.model), **asdict(sure)}
    _claim(folder, record)
    manifest = _open(config, results)
    selection = Selection(
        sure, lambda: plan_shards(manifest.files, config.shard_rows, config.limit), results
    )
    tally, policy = _Tally(), fetch_policy(config)
    for shard in selection.shards():
        rows = _kept_rows(selection, manifest, shard, tally, policy)
        for part in count():
            some = list(islice(rows, _PART_ROWS))
            if not some:
                break
            buffer = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist(some, schema=_SCHEMA), buffer, compression="none")
            _write(folder, f"pseudo-{shard.index:06d}-{part:03d}.parquet", buffer.getvalue())
    record |= {"rows": summary.rows, **tally.to_json()}
    _write_record(folder, record)
    return record


class _Tally:
    """How many pairs of each class are kept, and how many of these are of it, where that is known."""

    def __init__(self) -> None:
        self.kept: Counter[int] = Counter()
        self.known: Counter[int] = Counter()
        self.right: Counter[int] = Counter()

    def add(self, label: int, truth: int | None) -> None:
        self.kept[label] += 1
        if truth is not None:
            self.known[label] += 1
            self.right[label] += label == truth

    def to_json(self) -> dict[str, Any]:
        classes = {name: self.kept[label] for label, name in enumerate(SOURCES)}
        found: dict[str, Any] = {"kept": self.kept.total(), "classes": classes}
        if self.known:
            found["precision"] = self.right.total() / self.known.total()
            found["precisions"] = {
                SOURCES[label]: self.right[label] / rows
                for label, rows in sorted(self.known.items())
            }
        return found


def _open(config: ScanConfig, results: ResultsFolder) -> Manifest:
    """The manifest, with its labels where it has some: how often the model is right is told then."""
    manifest = open_manifest(
        config.paths, config.columns, known=results.recorded_files(), limit=config.limit
    )
    if not has_labels(manifest) or is_pseudo_labelled(manifest):
        return manifest
    columns = replace(config.columns, keep=label_columns(manifest))
    # The footers are read again: every file must have the labels, which nobody has looked for so far.
    return open_manifest(config.paths, columns, limit=config.limit)


def _claim(folder: Location, record: dict[str, Any]) -> None:
    make_folder(folder)
    file = folder.child(RECORD_FILE)
    if exists(file):
        before = json.loads(read_bytes(file))
        differing = [name for name, value in record.items() if before.get(name) != value]
        if differing:
            raise UsageError(
                f"{folder.text}: holds pseudo-labels of another {', '.join(differing)}: give another folder"
            )
    _write_record(folder, record)


def _write_record(folder: Location, record: dict[str, Any]) -> None:
    _write(folder, RECORD_FILE, (json.dumps(record, indent=2) + "\n").encode())


def _write(folder: Location, name: str, data: bytes | pa.Buffer) -> None:
    try:
        write_atomic(folder.child(name), data)
    except OSError as error:
        reason = explain_failure(error, folder)
        raise ResultsError(
            f"{folder.text}: cannot write {name}: {reason}; run the same command again"
        ) from error


def _kept_rows(
    selection: Selection, manifest: Manifest, shard: Shard, tally: _Tally, policy: FetchPolicy
) -> Iterator[dict[str, Any]]:
    """The kept rows of a shard with their images. Raises ResultsError where an image has gone since it was scanned."""
    kept = selection.labels(shard)

    def with_data(pair: _Pair) -> tuple[_Pair, bytes]:
        try:
            return pair, fetch_image(pair.image, policy)
        except RowFailure as failure:
            raise ResultsError(
                f"an image that was scanned cannot be read any more: {failure}"
            ) from failure

    wanted = (pair for pair in _pairs(manifest, shard) if pair.position in kept)
    for pair, data in bounded_map(with_data, wanted, _FETCH_THREADS):
        label, p_ai, share = kept[pair.position]
        tally.add(label, pair.truth)
        yield {
            "image": {"bytes": data, "path": pair.image.path},
            "prompt": pair.prompt,
            "Label_A": int(label > 0),
            "Label_B": label,
            "p_ai": p_ai,
            "p_generator": share,
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
