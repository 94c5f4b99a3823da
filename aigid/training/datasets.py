"""Labelled manifests as a stream of training batches, shuffled and decoded ahead.

Memory stays bounded: the stream never holds a whole manifest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aigid.bounded_map import bounded_map
from aigid.contract import ImageSpec
from aigid.errors import TrainingError
from aigid.fetch import FetchPolicy, image_references, image_root_of
from aigid.manifest import Manifest, Segment, open_manifest, read_segment, texts
from aigid.manifest_files import ManifestFile
from aigid.prompts import PromptEncoder
from aigid.training.data_name import data_name
from aigid.training.hub_data import local_manifest_path
from aigid.training.image_changes import Augmentation
from aigid.training.labelled import reject_pseudo_labels, row_group_segments
from aigid.training.labels import LEFT_OUT, LabelChoice, LabelCounts, RowLabels, read_labels
from aigid.training.row_decoder import (
    BatchAugmentation,
    Input,
    LabelledRow,
    ReadOptions,
    RowDecoder,
)
from aigid.training.training_batch import TrainingBatch

# Encoded rows held in memory to be shuffled together. They span many row groups and take some
# hundred megabytes at most.
SHUFFLE_BUFFER_ROWS = 2048


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
        return cls(open_manifest([path]), FetchPolicy(image_root_of([path])))


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

        Raises ManifestError where a manifest cannot be read, where it has no labels, and where
        labels are invalid.
        """
        self.name = data_name(paths)
        self._manifests = [_OpenedManifest.open(local_manifest_path(path)) for path in paths]
        self._prompts = prompts
        self._options = options
        self._decoder = RowDecoder(prompts, image, options)
        self.choice = choice
        self._labels = read_labels([opened.manifest for opened in self._manifests], choice, labels)

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
        for number, group in enumerate(_groups(rows, batch_rows)):
            # Drawn for the whole batch, so that the world size does not change who is flipped.
            mirrored = flip.random(len(group)) < flip_probability
            yield group[own], mirrored[own], _batch_augmentation(order, number, process)

    def _in_order(self) -> Iterator[LabelledRow]:
        for opened in self._manifests:
            for file in opened.manifest.files:
                for rows in self._read(opened, Segment(file, 0, file.rows)):
                    yield from rows

    def _shuffled(self, order: StreamOrder) -> Iterator[LabelledRow]:
        rng = np.random.default_rng([order.seed, order.epoch])
        groups = [
            (opened, segment)
            for opened in self._manifests
            for segment in row_group_segments(opened.manifest)
        ]
        shuffled_groups = rng.permutation(len(groups))
        chunks = (
            _oversample(rows, order.oversample_real)
            for index in shuffled_groups
            for rows in self._read(*groups[index])
        )
        return _shuffle(chunks, rng)

    def _read(self, opened: _OpenedManifest, segment: Segment) -> Iterator[list[LabelledRow]]:
        """Yield the rows of a segment in order, a few at a time, without those left out."""
        columns, codes, start = opened.manifest.columns, self._labels.of(segment), 0
        for rows in read_segment(opened.manifest, segment):
            images = image_references(rows.column(columns.image))
            shown = columns.prompt and self._options.without is not Input.PROMPT
            prompts = texts(rows.column(columns.prompt)) if shown else [None] * len(rows)
            labels = codes[start : start + len(rows)].tolist()
            start += len(rows)
            yield [
                LabelledRow(image, ids, int(label != 0), label, opened.policy)
                for image, ids, label in zip(
                    images, self._prompts.token_ids(prompts), labels, strict=True
                )
                if label != LEFT_OUT
            ]


def _batch_augmentation(
    order: StreamOrder | None, number: int, process: ProcessRank
) -> BatchAugmentation | None:
    """Return the random change of the images of batch `number`, or None."""
    if order is None or order.augmentation.is_off:
        return None
    rank = [process.rank] if process.world_size > 1 else []
    rng = np.random.default_rng([order.seed, order.epoch, 2, number, *rank])
    return BatchAugmentation(order.augmentation, rng, order.paired)


def _oversample(rows: list[LabelledRow], oversample_real: int) -> list[LabelledRow]:
    return [row for row in rows for _ in range(oversample_real if row.label_a == 0 else 1)]


def _shuffle(
    chunks: Iterator[list[LabelledRow]], rng: np.random.Generator
) -> Iterator[LabelledRow]:
    """Yield the rows of all chunks, mixed within the shuffle buffer."""
    buffer: list[LabelledRow] = []
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= SHUFFLE_BUFFER_ROWS:
            mixed = [buffer[position] for position in rng.permutation(len(buffer))]
            # The rest stays in the buffer, to be mixed with rows that are still to come.
            buffer = mixed[SHUFFLE_BUFFER_ROWS // 2 :]
            yield from mixed[: SHUFFLE_BUFFER_ROWS // 2]
    yield from (buffer[position] for position in rng.permutation(len(buffer)))


def _groups(rows: Iterator[LabelledRow], size: int) -> Iterator[list[LabelledRow]]:
    group: list[LabelledRow] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
