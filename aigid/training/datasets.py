"""Labelled manifests as a stream of training batches, shuffled and decoded ahead.

Memory stays bounded: the stream never holds a whole manifest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from aigid.bounded_map import bounded_map
from aigid.contract import ImageSpec
from aigid.errors import TrainingError
from aigid.fetch import FetchPolicy, image_references, image_root_of
from aigid.manifest import Manifest, open_parquet, read_segment
from aigid.prompts import PromptEncoder
from aigid.sources import ManifestFile, Segment, texts
from aigid.training.data_name import data_name
from aigid.training.hub_data import local_manifest_path
from aigid.training.image_changes import Augmentation
from aigid.training.labelled import reject_pseudo_labels, row_group_segments
from aigid.training.labels import (
    LEFT_OUT,
    Codes,
    LabelChoice,
    LabelCounts,
    RowLabels,
    read_labels,
)
from aigid.training.row_decoder import (
    BatchAugmentation,
    Input,
    LabelledRow,
    ReadOptions,
    RowDecoder,
)
from aigid.training.shared_files import refuse_shared
from aigid.training.training_batch import TrainingBatch

# Encoded rows held in memory to be shuffled together. They span many row groups and take some
# hundred megabytes at most.
SHUFFLE_BUFFER_ROWS = 2048

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class ProcessRank:
    """One process of a distributed run.

    It takes every row of a batch whose number is `rank` modulo `world_size`.
    """

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class StreamOrder:
    """How one epoch is shuffled and augmented.

    Every real row is repeated `oversample_real` times. With `paired`, each image comes both without
    and with the changes that `augmentation` draws; both versions are flipped, or neither.
    """

    seed: int
    epoch: int
    oversample_real: int = 1
    augmentation: Augmentation = Augmentation()
    paired: bool = False


@dataclass(frozen=True)
class _OpenedManifest:
    """One of the manifests. Its column names may differ from those of the others."""

    manifest: Manifest
    policy: FetchPolicy

    @classmethod
    def open(cls, path: str) -> "_OpenedManifest":
        return cls(open_parquet([path]), FetchPolicy(image_root_of([path])))


@dataclass(frozen=True)
class _Part:
    """Consecutive rows of a file; `first` is the number of the first of them in all manifests."""

    opened: _OpenedManifest
    segment: Segment
    first: int


class LabelledManifest:
    """Manifests with labels, read with the model's own preprocessing; `name` is a short one."""

    def __init__(
        self,
        paths: Sequence[str],
        prompts: PromptEncoder,
        image: ImageSpec,
        options: ReadOptions = ReadOptions(),
        *,
        choice: LabelChoice = LabelChoice(),
        labels: tuple[str, ...] | None = None,
    ) -> None:
        """Open the manifests, and read the labels of all rows: with the model's `labels`, or found.

        Raises ManifestError where a manifest cannot be read, where two have a file in common, where
        no row has a label, and where labels are invalid.
        """
        self.name = data_name(paths)
        self._manifests = [_OpenedManifest.open(local_manifest_path(path)) for path in paths]
        refuse_shared([opened.manifest for opened in self._manifests])
        self._prompts = prompts
        self._options = options
        self._decoder = RowDecoder(prompts, image, options)
        self.choice = choice
        self._labels = read_labels([opened.manifest for opened in self._manifests], choice, labels)
        self._labels.check_any()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the rows' `label_b` are indexes into."""
        return self._labels.labels

    @property
    def row_labels(self) -> RowLabels:
        """The labels of all rows, and how many rows have which."""
        return self._labels

    @property
    def rows(self) -> int:
        """The number of rows whose labels say something: all that are in batches or undecodable."""
        return self._labels.counts.rows

    @property
    def files(self) -> list[ManifestFile]:
        """The files of all manifests, in order."""
        return [file for opened in self._manifests for file in opened.manifest.files]

    @property
    def without(self) -> Input | None:
        """The input that is left out, or None."""
        return self._options.without

    def reject_pseudo_labels(self) -> None:
        """Raise UsageError where the labels of one of the manifests were made by a model."""
        for opened in self._manifests:
            reject_pseudo_labels(opened.manifest)

    def class_counts(self) -> tuple[int, ...]:
        """Return the number of rows of each label.

        AI-generated rows of another generator, or of none that is stated, are in no class.
        """
        return self._labels.counts.classes

    def epoch_counts(self, oversample_real: int) -> LabelCounts:
        """Return how many rows an epoch with oversampled real rows has of which label."""
        return self._labels.counts.oversampled(oversample_real)

    def batches(
        self, batch_rows: int, order: StreamOrder | None, process: ProcessRank = ProcessRank()
    ) -> Iterator[TrainingBatch]:
        """Yield the process's part of each batch of one pass, in `order` or the manifest's own.

        The same order always gives the same batches. Raises TrainingError at the end where not one
        image could be decoded.
        """
        decoded_any = False
        groups = self._augmented_groups(batch_rows, order, process)
        for batch in bounded_map(
            lambda group: self._decoder.decode(*group), groups, self._options.threads
        ):
            decoded_any = decoded_any or len(batch.label_a) > 0
            yield batch
        if not decoded_any:
            raise TrainingError(f"{self.files[0].path}: not one image could be decoded")

    def _augmented_groups(
        self, batch_rows: int, order: StreamOrder | None, process: ProcessRank
    ) -> Iterator[tuple[list[LabelledRow], npt.NDArray[np.bool_], BatchAugmentation | None]]:
        """Yield the process's rows of each batch, which of them to flip, and the random change."""
        rows = self._in_order() if order is None else self._shuffled(order)
        flip = np.random.default_rng([0, 0, 1] if order is None else [order.seed, order.epoch, 1])
        flip_probability = 0.0 if order is None else order.augmentation.flip
        own = slice(process.rank, None, process.world_size)
        for number, group in enumerate(groups_of(rows, batch_rows)):
            # Drawn for the whole batch, so that the world size does not change who is flipped.
            mirrored = flip.random(len(group)) < flip_probability
            yield group[own], mirrored[own], _batch_augmentation(order, number, process)

    def label_codes(self) -> Codes:
        """Return the codes of all rows by their numbers, int16 [N], as `RowLabels.of` has them."""
        parts = [self._labels.of(part.segment) for part in self._row_groups()]
        return np.concatenate([np.empty(0, np.int16), *parts])

    def row_numbers(self, order: StreamOrder | None) -> Iterator[int]:
        """Yield the number of each row of one pass, in the order in which `batches` has them."""
        if order is None:
            return (number for part in self._row_groups() for number in self._numbers(part, 1))
        rng = np.random.default_rng([order.seed, order.epoch])
        groups = self._row_groups()
        numbers = (
            number
            for index in rng.permutation(len(groups))
            for number in self._numbers(groups[index], order.oversample_real)
        )
        return _shuffle(numbers, rng)

    def _in_order(self) -> Iterator[LabelledRow]:
        first = 0
        for opened in self._manifests:
            for file in opened.manifest.files:
                yield from self._read(_Part(opened, Segment(file, 0, file.rows), first))
                first += file.rows

    def _shuffled(self, order: StreamOrder) -> Iterator[LabelledRow]:
        rng = np.random.default_rng([order.seed, order.epoch])
        groups = self._row_groups()
        rows = (
            row
            for index in rng.permutation(len(groups))
            for row in self._read(groups[index])
            for _ in range(order.oversample_real if row.label_a == 0 else 1)
        )
        return _shuffle(rows, rng)

    def _row_groups(self) -> list[_Part]:
        """Return the row groups of all files, in order."""
        groups, first = [], 0
        for opened in self._manifests:
            for segment in row_group_segments(opened.manifest):
                groups.append(_Part(opened, segment, first))
                first += segment.rows
        return groups

    def _numbers(self, part: _Part, oversample_real: int) -> Iterator[int]:
        """Yield the numbers of the rows that `_read` yields."""
        for number, label in enumerate(self._labels.of(part.segment).tolist(), part.first):
            if label != LEFT_OUT:
                yield from repeat(number, oversample_real if label == 0 else 1)

    def _read(self, part: _Part) -> Iterator[LabelledRow]:
        """Yield the rows of a part in order, without those left out."""
        opened, segment, start = part.opened, part.segment, 0
        columns, codes = opened.manifest.columns, self._labels.of(segment)
        for rows in read_segment(opened.manifest, segment):
            images = image_references(rows.column(columns.image))
            shown = columns.prompt and self._options.without is not Input.PROMPT
            prompts = texts(rows.column(columns.prompt)) if shown else [None] * len(rows)
            labels = codes[start : start + len(rows)].tolist()
            ids = self._prompts.token_ids(prompts)
            first = part.first + start
            start += len(rows)
            for number, row in enumerate(zip(images, ids, labels, strict=True), first):
                image, token_ids, label = row
                if label != LEFT_OUT:
                    yield LabelledRow(
                        image, token_ids, int(label != 0), label, opened.policy, number
                    )


def _batch_augmentation(
    order: StreamOrder | None, number: int, process: ProcessRank
) -> BatchAugmentation | None:
    """Return the random change of the images of batch `number`, or None."""
    if order is None or order.augmentation.is_off:
        return None
    rank = [process.rank] if process.world_size > 1 else []
    rng = np.random.default_rng([order.seed, order.epoch, 2, number, *rank])
    return BatchAugmentation(order.augmentation, rng, order.paired)


def _shuffle(rows: Iterator[_Row], rng: np.random.Generator) -> Iterator[_Row]:
    """Yield the rows, mixed within the shuffle buffer."""
    buffer: list[_Row] = []
    for row in rows:
        buffer.append(row)
        if len(buffer) == SHUFFLE_BUFFER_ROWS:
            mixed = [buffer[position] for position in rng.permutation(len(buffer))]
            # The rest stays in the buffer, to be mixed with rows that are still to come.
            buffer = mixed[SHUFFLE_BUFFER_ROWS // 2 :]
            yield from mixed[: SHUFFLE_BUFFER_ROWS // 2]
    yield from (buffer[position] for position in rng.permutation(len(buffer)))


def groups_of(rows: Iterator[_Row], size: int) -> Iterator[list[_Row]]:
    """Yield the rows in lists of `size`; the last may be shorter."""
    group: list[_Row] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
