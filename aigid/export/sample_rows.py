"""Sample rows spread over a manifest, to calibrate INT8 scales and to measure parity on."""

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

# Manifests are often sorted by class. This many runs of rows, spread evenly, meet every class.
RUNS = 32


@dataclass(frozen=True)
class SampleRow:
    """A usable row: pixels uint8 [1, H, W, 3], token ids int32 [1, T] without padding, labels.

    `labels` are Label_A and Label_B, or None if the manifest has none.
    """

    image: Pixels
    input_ids: Tokens
    labels: tuple[int, int] | None


def sample_rows(
    path: str, image: ImageSpec, prompts: PromptEncoder, rows: int
) -> Iterator[SampleRow]:
    """Yield `rows` usable rows of the manifest at `path`; skip rows whose image cannot be read.

    Raises ManifestError at once if the manifest has no prompts or too few rows, and at its end if
    too few of them are usable.
    """
    manifest = open_manifest([path])
    if has_labels(manifest):
        manifest = open_manifest([path], ColumnChoice(keep=label_columns(manifest)))
    if manifest.columns.prompt is None:
        raise ManifestError(
            f"{path}: no prompt column: calibration and parity need image-prompt pairs "
            "like those to be scanned"
        )
    if manifest.rows < rows:
        raise _too_few_rows(path, manifest.rows, manifest.rows, rows)
    return _usable_rows(path, manifest, image, prompts, rows)


def rows_for(checkpoint: Checkpoint, path: str, rows: int) -> Iterator[SampleRow]:
    """Call `sample_rows` with the image and prompt settings of a checkpoint."""
    prompts = PromptEncoder(checkpoint.tokenizer_file, checkpoint.info.prompt)
    return sample_rows(path, checkpoint.info.image, prompts, rows)


def _usable_rows(
    path: str, manifest: Manifest, image: ImageSpec, prompts: PromptEncoder, rows: int
) -> Iterator[SampleRow]:
    policy = FetchPolicy(image_root_of([path]))
    found = 0
    for segment in spread_segments(manifest, rows):
        for row in _rows_of_segment(manifest, segment, policy, image, prompts):
            found += 1
            yield row
            if found == rows:
                return
    raise _too_few_rows(path, found, manifest.rows, rows)


def _too_few_rows(path: str, found: int, total: int, wanted: int) -> ManifestError:
    return ManifestError(
        f"{path}: {found} of its {total} rows are usable, but {wanted} are needed: "
        "ask for fewer rows, or give a manifest with more"
    )


def spread_segments(manifest: Manifest, rows: int) -> Iterator[Segment]:
    """Yield runs spread evenly over the manifest, `rows` rows in total, and then all other rows.

    The other rows replace those that turn out unusable.
    """
    runs = min(RUNS, rows)
    length = -(-rows // runs)
    starts = sorted({run * manifest.rows // runs for run in range(runs)})
    next_starts = [*starts[1:], manifest.rows]
    ends = [min(start + length, end) for start, end in zip(starts, next_starts, strict=True)]
    for start, end in (*zip(starts, ends, strict=True), *zip(ends, next_starts, strict=True)):
        yield from _segments(manifest, start, end)


def _segments(manifest: Manifest, start: int, end: int) -> Iterator[Segment]:
    """Yield the manifest's rows `start` to `end`, file by file."""
    before = 0
    for file in manifest.files:
        first, last = max(start - before, 0), min(end - before, file.rows)
        if first < last:
            yield Segment(file, first, last)
        before += file.rows


def _rows_of_segment(
    manifest: Manifest,
    segment: Segment,
    policy: FetchPolicy,
    image: ImageSpec,
    prompts: PromptEncoder,
) -> Iterator[SampleRow]:
    for batch in read_segment(manifest, segment):
        references = image_references(batch.column(manifest.columns.image))
        token_ids = prompts.token_ids(texts(batch.column(manifest.columns.prompt)))
        labels = _labels(manifest, segment, batch)
        for reference, ids, label in zip(references, token_ids, labels, strict=True):
            try:
                pixels = decode_image(fetch_image(reference, policy), image, policy.limits)
            except RowFailure:
                continue
            yield SampleRow(pixels[None], np.array([ids], np.int32), label)


def _labels(
    manifest: Manifest, segment: Segment, batch: pa.RecordBatch
) -> list[tuple[int, int] | None]:
    if not manifest.columns.keep:
        return [None] * len(batch)
    label_a, label_b = (batch.column(name).to_pylist() for name in manifest.columns.keep)
    for a, b in zip(label_a, label_b, strict=True):
        check_labels(a, b, segment.file.path)
    return list(zip(label_a, label_b, strict=True))
