"""Labelled manifests as a stream of training batches: shuffled, decoded ahead, never held in memory whole."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from aigid.contract import ImageSpec
from aigid.errors import TrainingError
from aigid.fetch import FetchPolicy, ImageReference, fetch_image, image_references, image_root_of
from aigid.manifest import Manifest, Segment, read_columns, read_segment, texts
from aigid.manifest_files import ManifestFile
from aigid.pixels import Pixels, decode_image, decode_opened, image_pixels
from aigid.prompts import PromptEncoder, TokenBatch, pad_to_bucket
from aigid.records import SOURCES, RowFailure
from aigid.training.hub_data import downloaded
from aigid.training.image_changes import Augmentation, ImageChange
from aigid.training.labelled import (
    check_labels,
    label_columns,
    open_labelled,
    require_truth,
    row_group_segments,
)

Labels = npt.NDArray[np.int64]

# Rows that are in memory, encoded, to be mixed with one another: many row groups, some hundred megabytes at the most.
WINDOW_ROWS = 2048
_AHEAD = 4

# What stands for a picture that is not shown: the middle grey.
_GREY = 128


class Input(StrEnum):
    """One of the two things that a model is given."""

    IMAGE = "image"
    PROMPT = "prompt"


@dataclass(frozen=True)
class LabelledRow:
    """One row: its encoded image, its prompt's token ids, its labels, and how an image that is only named is found."""

    image: ImageReference
    token_ids: list[int]
    label_a: int
    label_b: int
    policy: FetchPolicy


@dataclass(frozen=True)
class TrainingBatch:
    """N rows for the model: `images` uint8 [N, *ImageSpec.shape], tokens of one bucket, labels int64 [N].

    `changed` are the same pictures augmented, where both are wanted. N is 0 where no picture could be decoded.
    """

    images: Pixels
    tokens: TokenBatch
    label_a: Labels
    label_b: Labels
    undecodable: int
    changed: Pixels | None = None

    def all_images(self) -> Pixels:
        """The pictures, and after them the changed ones, if there are any."""
        return self.images if self.changed is None else np.concatenate([self.images, self.changed])

    def parts(self, count: int) -> "list[TrainingBatch]":
        """The rows in so many parts, or as many as there are rows, as even as can be."""
        bounds = (
            np.linspace(0, len(self.label_a), min(count, len(self.label_a)) + 1).round().astype(int)
        )
        return [self._part(slice(start, stop)) for start, stop in pairwise(bounds)]

    def _part(self, rows: slice) -> "TrainingBatch":
        tokens = TokenBatch(self.tokens.input_ids[rows], self.tokens.attention_mask[rows])
        changed = None if self.changed is None else self.changed[rows]
        return TrainingBatch(
            self.images[rows], tokens, self.label_a[rows], self.label_b[rows], 0, changed
        )


@dataclass(frozen=True)
class Share:
    """The part of each batch that one of several processes takes: every row of number `index` modulo `of`."""

    index: int = 0
    of: int = 1


@dataclass(frozen=True)
class StreamOrder:
    """How an epoch is shuffled and enriched; `oversample_real` draws every real row that many times.

    With `paired`, each picture is given both without the changes that `augmentation` draws and with them, mirrored alike.
    """

    seed: int
    epoch: int
    oversample_real: int = 1
    augmentation: Augmentation = Augmentation()
    paired: bool = False


@dataclass(frozen=True)
class Reading:
    """How pictures are read: what is made of each first, by how many threads, and which input is left out, if one is."""

    change: ImageChange | None = None
    threads: int = 2
    without: Input | None = None


@dataclass(frozen=True)
class Augmented:
    """A random change of a batch's pictures; `paired` ones are wanted without it too."""

    change: ImageChange
    paired: bool


@dataclass(frozen=True)
class _Source:
    """One of the manifests: its columns may have other names than the others'."""

    manifest: Manifest
    label_columns: tuple[str, str]
    policy: FetchPolicy

    @classmethod
    def open(cls, source: str) -> "_Source":
        manifest = open_labelled([source])
        return cls(manifest, label_columns(manifest), FetchPolicy(image_root_of([source])))


class LabelledManifest:
    """Manifests with Label_A and Label_B columns, read with the model's own preprocessing."""

    def __init__(
        self,
        sources: Sequence[str],
        prompts: PromptEncoder,
        image: ImageSpec,
        reading: Reading = Reading(),
    ) -> None:
        """Open the manifests. Raises ManifestError where one cannot be read, and UsageError where it has no labels."""
        self._sources = [_Source.open(downloaded(source)) for source in sources]
        self._prompts = prompts
        self._image = image
        self._reading = reading
        self._rows_of_classes: tuple[int, ...] | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(source.manifest.rows for source in self._sources)

    @property
    def files(self) -> list[ManifestFile]:
        """The files of all manifests, in order."""
        return [file for source in self._sources for file in source.manifest.files]

    @property
    def without(self) -> Input | None:
        """The input that is left out, if one is."""
        return self._reading.without

    def require_truth(self) -> None:
        """Raise UsageError where labels of one of the manifests are a model's own."""
        for source in self._sources:
            require_truth(source.manifest)

    def rows_of_classes(self) -> tuple[int, ...]:
        """How many rows there are of each source; reads the labels once. Raises TrainingError where one is none."""
        if self._rows_of_classes is None:
            counts: Counter[int] = Counter()
            for file, names in (
                (file, source.label_columns)
                for source in self._sources
                for file in source.manifest.files
            ):
                table = read_columns(file, list(names))
                a, b = (table.column(name).to_pylist() for name in names)
                for row, labels in enumerate(zip(a, b, strict=True)):
                    check_labels(*labels, f"{file.path}, row {row}")
                counts.update(b)
            self._rows_of_classes = tuple(counts[label] for label in range(len(SOURCES)))
        return self._rows_of_classes

    def rows_drawn(self, oversample_real: int) -> tuple[int, ...]:
        """How many rows of each source an epoch draws when every real row is drawn `oversample_real` times."""
        real, *generated = self.rows_of_classes()
        return real * oversample_real, *generated

    def batches(
        self, batch_rows: int, order: StreamOrder | None, share: Share = Share()
    ) -> Iterator[TrainingBatch]:
        """Batches of one pass, the share in each; without an `order`, the manifest's own.

        The same order gives the same batches always. Raises TrainingError where a label is none, and in the end where not
        one image could be decoded.
        """
        nothing = True
        for batch in self._decoded(batch_rows, order, share):
            nothing = nothing and not len(batch.label_a)
            yield batch
        if nothing:
            raise TrainingError(f"{self.files[0].path}: not one image could be decoded")

    def _decoded(
        self, batch_rows: int, order: StreamOrder | None, share: Share
    ) -> Iterator[TrainingBatch]:
        rows = self._in_order() if order is None else self._shuffled(order)
        flip = np.random.default_rng([0, 0, 1] if order is None else [order.seed, order.epoch, 1])
        share_mirrored = 0.0 if order is None else order.augmentation.flip
        with ThreadPoolExecutor(self._reading.threads) as pool:
            running: deque[Future[TrainingBatch]] = deque()
            for number, group in enumerate(_groups(rows, batch_rows)):
                mirrored = flip.random(len(group)) < share_mirrored
                own = slice(share.index, None, share.of)
                change = self._random_change(order, number, share)
                running.append(pool.submit(self._decode, group[own], mirrored[own], change))
                if len(running) > max(_AHEAD, self._reading.threads):
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def _in_order(self) -> Iterator[LabelledRow]:
        for source in self._sources:
            for file in source.manifest.files:
                for rows in self._read(source, Segment(file, 0, file.rows)):
                    yield from rows

    def _shuffled(self, order: StreamOrder) -> Iterator[LabelledRow]:
        rng = np.random.default_rng([order.seed, order.epoch])
        groups = [
            (source, segment)
            for source in self._sources
            for segment in row_group_segments(source.manifest)
        ]
        window: list[LabelledRow] = []
        for index in rng.permutation(len(groups)):
            for rows in self._read(*groups[index]):
                window += [
                    row
                    for row in rows
                    for _ in range(order.oversample_real if row.label_a == 0 else 1)
                ]
                while len(window) >= WINDOW_ROWS:
                    mixed = [window[position] for position in rng.permutation(len(window))]
                    # The rest stays, to be mixed with rows that are still to come.
                    window = mixed[WINDOW_ROWS // 2 :]
                    yield from mixed[: WINDOW_ROWS // 2]
        yield from (window[position] for position in rng.permutation(len(window)))

    def _read(self, source: _Source, segment: Segment) -> Iterator[list[LabelledRow]]:
        """The rows of a segment in order, a few at a time."""
        columns, path, start = source.manifest.columns, segment.file.path, segment.start
        for rows in read_segment(source.manifest, segment):
            images = image_references(rows.column(columns.image))
            shown = columns.prompt and self._reading.without is not Input.PROMPT
            prompts = texts(rows.column(columns.prompt)) if shown else [None] * len(rows)
            labels = [rows.column(name).to_pylist() for name in source.label_columns]
            read: list[LabelledRow] = []
            for image, ids, a, b in zip(
                images, self._prompts.token_ids(prompts), *labels, strict=True
            ):
                where = f"{path}, row {start + len(read)}"
                check_labels(a, b, where)
                read.append(LabelledRow(image, ids, a, b, source.policy))
            yield read
            start += len(rows)

    def _random_change(
        self, order: StreamOrder | None, number: int, share: Share
    ) -> Augmented | None:
        """What is done to the pictures of batch `number`, and whether they are wanted without it too."""
        if order is None or order.augmentation.is_off:
            return None
        rng = np.random.default_rng(
            [order.seed, order.epoch, 2, number, *([share.index] if share.of > 1 else [])]
        )
        return Augmented(order.augmentation.change(rng), order.paired)

    def _decode(
        self, rows: list[LabelledRow], mirrored: npt.NDArray[np.bool_], augmented: Augmented | None
    ) -> TrainingBatch:
        kept: list[LabelledRow] = []
        views: list[list[Pixels]] = []
        for row, mirror in zip(rows, mirrored, strict=True):
            try:
                pixels = self._views(row, augmented)
            except RowFailure:
                continue
            kept.append(row)
            views.append([view[:, ::-1] if mirror else view for view in pixels])
        bucket = self._prompts.bucket(max((len(row.token_ids) for row in kept), default=1))
        none = np.zeros((0, *self._image.shape), np.uint8)
        first, *others = [np.stack(column) for column in zip(*views, strict=True)] or [none]
        return TrainingBatch(
            first,
            pad_to_bucket([row.token_ids for row in kept], bucket),
            np.array([row.label_a for row in kept], np.int64),
            np.array([row.label_b for row in kept], np.int64),
            len(rows) - len(kept),
            others[0] if others else None,
        )

    def _views(self, row: LabelledRow, augmented: Augmented | None) -> list[Pixels]:
        """A row's picture, or two where both are wanted; raises RowFailure."""
        data = fetch_image(row.image, row.policy)
        if self._reading.without is Input.IMAGE:
            return [np.full(self._image.shape, _GREY, np.uint8)]
        own = self._reading.change
        if own is None and augmented is None:
            return [decode_image(data, self._image)]
        picture = decode_opened(data)
        if own is not None:
            picture = own(picture)
        plain = [picture] if augmented is None or augmented.paired else []
        changed = [] if augmented is None else [augmented.change(picture)]
        return [image_pixels(one, self._image) for one in plain + changed]


def _groups(rows: Iterator[LabelledRow], size: int) -> Iterator[list[LabelledRow]]:
    group: list[LabelledRow] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
