"""Pseudo-labels: the pairs of a scanned manifest about which both heads are sure, as a labelled manifest of their own.

Source: the NAU-QMUL system (arXiv 2602.23863), which keeps a pair where max(p, 1 - p) of head A and the largest softmax of
head B reach a threshold, 0.8 in the submitted run. Here head B speaks of generators alone, so it has a say in AI-generated
pairs only, with the generator's share among the five.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from aigid.config import ScanConfig
from aigid.errors import ResultsError, UsageError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image, image_references
from aigid.manifest import Manifest, open_manifest, read_segment, texts
from aigid.ordered_map import ordered_map
from aigid.records import SOURCES, RowFailure
from aigid.results import ResultsFolder, open_results
from aigid.scan_job import fetch_policy
from aigid.shards import Shard, plan_shards
from aigid.storage import Location, exists, explain_failure, locate, make_folder, read_bytes, write_atomic

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


@dataclass(frozen=True)
class Sureness:
    """From which probability on each head counts as sure."""

    head_a: float = 0.8
    head_b: float = 0.8

    def __post_init__(self) -> None:
        if not (0.5 <= self.head_a <= 1 and 0 <= self.head_b <= 1):
            raise UsageError(f"to be sure is a probability, of head A at least 0.5: got {self.head_a} and {self.head_b}")


def pseudo_labels(
    p_ai: npt.NDArray[np.float32], p_source: npt.NDArray[np.float32], sure: Sureness
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """For N rows: which are kept, their Label_B (0 real, 1 to 5 the generator), and the generator's share, 1 for real ones.

    `p_ai` float32 [N] and `p_source` float32 [N, 6] are the scan's; NaN where a row was not scored, which is never kept.
    """
    ai = p_ai > 0.5
    generators = p_source[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(ai, generators.max(axis=1) / p_ai, 1).astype(np.float32)
        kept = (np.maximum(p_ai, 1 - p_ai) >= sure.head_a) & (share >= sure.head_b)
    return kept & ~np.isnan(p_ai), np.where(ai, 1 + generators.argmax(axis=1), 0).astype(np.int32), share


def write_pseudo_labels(config: ScanConfig, out: str, sure: Sureness) -> dict[str, Any]:
    """Write the kept pairs of a finished scan into the folder `out`, and beside them what was kept; gives the latter.

    The images' bytes are written too: the new manifest needs nothing else. Raises UsageError where the folder holds those
    of another scan or threshold, and ResultsError where the scan is not finished.
    """
    results, folder = open_results(config.out), locate(out)
    summary = results.read_summary()
    if summary is None:
        raise ResultsError(f"{config.out}: the scan is not finished: run it again first")
    record: dict[str, Any] = {"scan": config.out, "model": summary["model"], "head_a": sure.head_a, "head_b": sure.head_b}
    _claim(folder, record)
    manifest = open_manifest(config.manifests, config.columns, known=results.recorded_files(), limit=config.limit)
    policy = fetch_policy(config)
    counts: Counter[str] = Counter()
    for shard in plan_shards(manifest.files, config.shard_rows, config.limit):
        rows = _kept_rows(results, manifest, shard, sure, policy)
        for part in count():
            some = list(islice(rows, _PART_ROWS))
            if not some:
                break
            counts.update(SOURCES[row["Label_B"]] for row in some)
            buffer = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist(some, schema=_SCHEMA), buffer, compression="none")
            _write(folder, f"pseudo-{shard.index:06d}-{part:03d}.parquet", buffer.getvalue())
    record |= {"rows": summary["rows"], "kept": sum(counts.values()), "classes": {name: counts[name] for name in SOURCES}}
    _write_record(folder, record)
    return record


def _claim(folder: Location, record: dict[str, Any]) -> None:
    make_folder(folder)
    file = folder.child(RECORD_FILE)
    if exists(file):
        before = json.loads(read_bytes(file))
        differing = [name for name, value in record.items() if before.get(name) != value]
        if differing:
            raise UsageError(f"{folder.text}: holds pseudo-labels of another {', '.join(differing)}: give another folder")
    _write_record(folder, record)


def _write_record(folder: Location, record: dict[str, Any]) -> None:
    _write(folder, RECORD_FILE, (json.dumps(record, indent=2) + "\n").encode())


def _write(folder: Location, name: str, data: bytes | pa.Buffer) -> None:
    try:
        write_atomic(folder.child(name), data)
    except OSError as error:
        reason = explain_failure(error, folder)
        raise ResultsError(f"{folder.text}: cannot write {name}: {reason}; run the same command again") from error


def _kept_rows(
    results: ResultsFolder, manifest: Manifest, shard: Shard, sure: Sureness, policy: FetchPolicy
) -> Iterator[dict[str, Any]]:
    """The kept rows of a shard with their images. Raises ResultsError where an image has gone since it was scanned."""
    answers = results.read(shard, ["p_ai", "p_source"])
    p_ai = answers.column("p_ai").to_numpy().astype(np.float32)
    flat = answers.column("p_source").combine_chunks().fill_null([np.nan] * len(SOURCES)).flatten()
    kept, labels, share = pseudo_labels(p_ai, flat.to_numpy(zero_copy_only=False).reshape(-1, len(SOURCES)), sure)

    def with_data(pair: _Pair) -> tuple[_Pair, bytes]:
        try:
            return pair, fetch_image(pair.image, policy)
        except RowFailure as failure:
            raise ResultsError(f"an image that was scanned cannot be read any more: {failure}") from failure

    wanted = (pair for pair in _pairs(manifest, shard) if kept[pair.position])
    for (position, image, prompt), data in ordered_map(with_data, wanted, _FETCH_THREADS):
        label = int(labels[position])
        yield {
            "image": {"bytes": data, "path": image.path},
            "prompt": prompt,
            "Label_A": int(label > 0),
            "Label_B": label,
            "p_ai": float(p_ai[position]),
            "p_generator": float(share[position]),
        }


def _pairs(manifest: Manifest, shard: Shard) -> Iterator[_Pair]:
    columns, position = manifest.columns, 0
    for segment in shard.segments:
        for rows in read_segment(manifest, segment):
            prompts = texts(rows.column(columns.prompt)) if columns.prompt else [None] * len(rows)
            for image, prompt in zip(image_references(rows.column(columns.image)), prompts, strict=True):
                yield _Pair(position, image, prompt)
                position += 1
