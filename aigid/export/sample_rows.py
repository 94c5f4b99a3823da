"""Rows of a manifest, spread over all of it, as what the encoders see: scales and parity are measured on them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from aigid.contract import ImageSpec
from aigid.errors import ManifestError
from aigid.fetch import FetchPolicy, fetch_image, image_references, image_root_of
from aigid.manifest import ColumnChoice, Manifest, Segment, open_manifest, read_segment, texts
from aigid.pixels import Pixels, decode_image
from aigid.prompts import PromptEncoder, Tokens
from aigid.records import RowFailure
from aigid.training.checkpoint import Checkpoint
from aigid.training.labelled import check_labels, has_labels, label_columns

# Manifests are often sorted by class: this many runs of rows, evenly spread, meet them all.
RUNS = 32


@dataclass(frozen=True)
class SampleRow:
    """A usable row: pixels uint8 [1, *ImageSpec.shape], token ids int32 [1, T] unpadded, Label_A and Label_B if known."""

    image: Pixels
    input_ids: Tokens
    labels: tuple[int, int] | None


def sample_rows(
    source: str, image: ImageSpec, prompts: PromptEncoder, rows: int
) -> Iterator[SampleRow]:
    """Give `rows` usable rows of the manifest `source`, one at a time; rows whose image cannot be read are passed over.

    Raises ManifestError at once where the manifest has no prompts or too few rows; while iterating, where too few can be used.
    """
    manifest = open_manifest([source])
    if has_labels(manifest):
        manifest = open_manifest([source], ColumnChoice(keep=label_columns(manifest)))
    if manifest.columns.prompt is None:
        raise ManifestError(
            f"{source}: no prompt column; the text encoder needs prompts like those to be scanned"
        )
    if manifest.rows < rows:
        raise _too_few(source, manifest.rows, manifest.rows, rows)
    return _take_usable(source, manifest, image, prompts, rows)


def rows_for(checkpoint: Checkpoint, source: str, rows: int) -> Iterator[SampleRow]:
    """`sample_rows`, prepared as the inputs of the checkpoint's own model are."""
    prompts = PromptEncoder(checkpoint.tokenizer_file, checkpoint.info.prompt)
    return sample_rows(source, checkpoint.info.image, prompts, rows)


def _take_usable(
    source: str, manifest: Manifest, image: ImageSpec, prompts: PromptEncoder, rows: int
) -> Iterator[SampleRow]:
    policy = FetchPolicy(image_root_of([source]))
    found = 0
    for segment in spread_segments(manifest, rows):
        for row in _usable_rows(manifest, segment, policy, image, prompts):
            found += 1
            yield row
            if found == rows:
                return
    raise _too_few(source, found, manifest.rows, rows)


def _too_few(source: str, found: int, total: int, wanted: int) -> ManifestError:
    return ManifestError(
        f"{source}: {found} of its {total} rows can be used, but {wanted} were asked for: "
        "ask for fewer, or give a manifest with more"
    )


def spread_segments(manifest: Manifest, rows: int) -> Iterator[Segment]:
    """Runs that start evenly over the manifest, `rows` rows in all, and then the rest of it, for rows that fail."""
    runs = min(RUNS, rows)
    length = -(-rows // runs)
    starts = sorted({run * manifest.rows // runs for run in range(runs)})
    ends = [
        min(start + length, end)
        for start, end in zip(starts, [*starts[1:], manifest.rows], strict=True)
    ]
    for start, end in zip(starts, ends, strict=True):
        yield from _segments(manifest, start, end)
    for start, end in zip(ends, [*starts[1:], manifest.rows], strict=True):
        yield from _segments(manifest, start, end)


def _segments(manifest: Manifest, start: int, end: int) -> Iterator[Segment]:
    """The manifest's rows `start` to `end`, file by file."""
    before = 0
    for file in manifest.files:
        first, last = max(start - before, 0), min(end - before, file.rows)
        if first < last:
            yield Segment(file, first, last)
        before += file.rows


def _usable_rows(
    manifest: Manifest,
    segment: Segment,
    policy: FetchPolicy,
    image: ImageSpec,
    prompts: PromptEncoder,
) -> Iterator[SampleRow]:
    for batch in read_segment(manifest, segment):
        captions = texts(batch.column(manifest.columns.prompt))
        references = image_references(batch.column(manifest.columns.image))
        labels = _labels(manifest, segment, batch)
        for reference, token_ids, label in zip(
            references, prompts.token_ids(captions), labels, strict=True
        ):
            try:
                pixels = decode_image(fetch_image(reference, policy), image, policy.limits)
            except RowFailure:
                continue
            yield SampleRow(pixels[None], np.array([token_ids], np.int32), label)


def _labels(
    manifest: Manifest, segment: Segment, batch: pa.RecordBatch
) -> list[tuple[int, int] | None]:
    if not manifest.columns.keep:
        return [None] * len(batch)
    label_a, label_b = (batch.column(name).to_pylist() for name in manifest.columns.keep)
    for a, b in zip(label_a, label_b, strict=True):
        check_labels(a, b, segment.file.path)
    return list(zip(label_a, label_b, strict=True))
