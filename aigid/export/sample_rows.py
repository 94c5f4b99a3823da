"""Sample rows spread over a manifest, to calibrate INT8 scales and to measure parity on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aigid.errors import ManifestError
from aigid.fetch import FetchPolicy, fetch_image, image_references, image_root_of
from aigid.manifest import Manifest, open_parquet, read_segment
from aigid.pixels import Pixels, decode_image
from aigid.prompts import PromptEncoder, Tokens
from aigid.records import RowFailure
from aigid.sources import Segment, texts
from aigid.training.checkpoint import Checkpoint
from aigid.training.hub_data import local_manifest_path
from aigid.training.labels import (
    LEFT_OUT,
    LabelChoice,
    RowLabels,
    has_label_columns,
    read_labels,
)

# Manifests are often sorted by class. This many runs of rows, spread evenly, meet every class.
RUNS = 32


@dataclass(frozen=True)
class SampleRow:
    """A usable row: pixels uint8 [1, H, W, 3], token ids int32 [1, T] without padding, its label.

    `label_b` is an index into the model's labels, UNKNOWN_GENERATOR or OTHER_GENERATOR; None if
    the manifest does not tell.
    """

    image: Pixels
    input_ids: Tokens
    label_b: int | None


class RowSource:
    """A manifest of image-prompt pairs, read with a model's own preprocessing.

    Its labels are read if a `choice` of them is given and there are some.
    """

    def __init__(
        self, checkpoint: Checkpoint, path: str, choice: LabelChoice | None = None
    ) -> None:
        """Open the manifest at `path`.

        Raises ManifestError if it cannot be read, or if its labels are invalid.
        """
        self._path = local_manifest_path(path)
        self._manifest = open_parquet([self._path])
        self._image = checkpoint.info.image
        self._prompts = PromptEncoder(checkpoint.tokenizer_file, checkpoint.info.prompt)
        self._policy = FetchPolicy(image_root_of([self._path]))
        self._labels: RowLabels | None = None
        if choice is not None and has_label_columns(self._manifest.schema, choice):
            self._labels = read_labels([self._manifest], choice, checkpoint.info.labels)

    @property
    def rows(self) -> int:
        """The number of the manifest's rows."""
        return self._manifest.rows

    @property
    def has_labels(self) -> bool:
        """Whether the rows come with labels."""
        return self._labels is not None

    def sample(self, rows: int, *, fewest: int | None = None) -> Iterator[SampleRow]:
        """Yield `rows` usable rows, spread over the manifest; skip those without a readable image.

        Raises ManifestError where fewer than `fewest` rows are usable, by default `rows`: at once
        if the manifest has too few, else at its end.
        """
        needed = rows if fewest is None else fewest
        if self._manifest.rows < needed:
            raise self._too_few_rows(self._manifest.rows, needed)
        return self._usable_rows(rows, needed)

    def _usable_rows(self, rows: int, needed: int) -> Iterator[SampleRow]:
        found = 0
        for segment in spread_segments(self._manifest, rows):
            for row in self._rows_of_segment(segment):
                found += 1
                yield row
                if found == rows:
                    return
        if found < needed:
            raise self._too_few_rows(found, needed)

    def _too_few_rows(self, found: int, wanted: int) -> ManifestError:
        return ManifestError(
            f"{self._path}: {found} of its {self._manifest.rows} rows are usable, but {wanted} are "
            "needed: give a manifest with more, or ask for fewer, as with `calibration_rows`"
        )

    def _rows_of_segment(self, segment: Segment) -> Iterator[SampleRow]:
        columns, start = self._manifest.columns, segment.start
        for batch in read_segment(self._manifest, segment):
            references = image_references(batch.column(columns.image))
            prompts = texts(batch.column(columns.prompt)) if columns.prompt else [None] * len(batch)
            token_ids = self._prompts.token_ids(prompts)
            labels = self._labels_of(Segment(segment.file, start, start + len(batch)))
            start += len(batch)
            for reference, ids, label in zip(references, token_ids, labels, strict=True):
                try:
                    data = fetch_image(reference, self._policy)
                    pixels = decode_image(data, self._image, self._policy.limits)
                except RowFailure:
                    continue
                yield SampleRow(pixels[None], np.array([ids], np.int32), label)

    def _labels_of(self, segment: Segment) -> list[int | None]:
        if self._labels is None:
            return [None] * segment.rows
        codes = self._labels.of(segment).tolist()
        return [None if code == LEFT_OUT else code for code in codes]


def rows_for(checkpoint: Checkpoint, path: str, rows: int) -> Iterator[SampleRow]:
    """Sample rows of the manifest at `path`, without labels, for a checkpoint."""
    return RowSource(checkpoint, path).sample(rows)


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
