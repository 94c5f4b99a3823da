"""From labelled rows to training batches: images fetched, augmented and decoded, prompts padded."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from aigid.contract import ImageSpec
from aigid.fetch import FetchPolicy, ImageReference, fetch_image
from aigid.pixels import Pixels, changed_pixels
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.records import RowFailure
from aigid.training.image_changes import Augmentation, ImageChange, in_turn
from aigid.training.training_batch import TrainingBatch

# The pixels of an image that is left out: middle grey.
_GREY = 128


class Input(StrEnum):
    """One of the model's two inputs."""

    IMAGE = "image"
    PROMPT = "prompt"


@dataclass(frozen=True)
class ReadOptions:
    """How rows are read.

    `change` is applied to every image before it is resized. `threads` is the number of decoding
    threads. `without` names an input to leave out: images become grey, prompts empty.
    """

    change: ImageChange | None = None
    threads: int = 2
    without: Input | None = None


@dataclass(frozen=True)
class LabelledRow:
    """One row, not decoded yet: image reference, the prompt's token ids, labels, fetch policy.

    `number` counts the rows of all manifests, from 0.
    """

    image: ImageReference
    token_ids: list[int]
    label_a: int
    label_b: int
    policy: FetchPolicy
    number: int


@dataclass(frozen=True)
class BatchAugmentation:
    """Random changes of a batch's images; with `paired`, the unchanged images are kept as well."""

    augmentation: Augmentation
    rng: np.random.Generator
    paired: bool


class RowDecoder:
    """Decodes labelled rows with the model's own preprocessing. Safe to share between threads."""

    def __init__(self, prompts: PromptEncoder, image: ImageSpec, options: ReadOptions) -> None:
        self._prompts, self._image, self._options = prompts, image, options

    def decode(
        self,
        rows: list[LabelledRow],
        mirrored: Iterable[bool],
        augmentation: BatchAugmentation | None,
    ) -> TrainingBatch:
        """Return the batch of these rows, without those whose image cannot be read.

        `mirrored` says for each row whether its image is flipped left to right.
        """
        kept: list[LabelledRow] = []
        versions: list[list[Pixels]] = []
        for row, mirror in zip(rows, mirrored, strict=True):
            try:
                pixels = self._versions(row, augmentation)
            except RowFailure:
                continue
            kept.append(row)
            versions.append([one[:, ::-1] if mirror else one for one in pixels])
        bucket = self._prompts.bucket(max((len(row.token_ids) for row in kept), default=1))
        empty = np.zeros((0, *self._image.shape), np.uint8)
        images, *changed = [np.stack(column) for column in zip(*versions, strict=True)] or [empty]
        return TrainingBatch(
            images,
            pad_to_bucket([row.token_ids for row in kept], bucket),
            _int64(row.label_a for row in kept),
            _int64(row.label_b for row in kept),
            _int64(row.number for row in kept),
            len(rows) - len(kept),
            changed[0] if changed else None,
        )

    def _versions(self, row: LabelledRow, augmentation: BatchAugmentation | None) -> list[Pixels]:
        """Return the row's image, or two versions of it where both are wanted.

        Raises RowFailure where the image cannot be read.
        """
        data = fetch_image(row.image, row.policy)
        if self._options.without is Input.IMAGE:
            return [np.full(self._image.shape, _GREY, np.uint8)]
        change = self._options.change
        if augmentation is None:
            return changed_pixels(data, self._image, [change])
        drawn = augmentation.augmentation.draw(augmentation.rng)
        kept = [change] if augmentation.paired else []
        return changed_pixels(data, self._image, [*kept, in_turn(change, drawn)])


def _int64(values: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.fromiter(values, np.int64)
