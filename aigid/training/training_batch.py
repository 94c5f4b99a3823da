"""One batch of training rows, as arrays: images and tokens, or features made of them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from aigid.pixels import Pixels
from aigid.prompts import TokenBatch

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TrainingBatch:
    """N rows for the model: `images` uint8 [N, *ImageSpec.shape], tokens padded to one bucket.

    Labels are int64 [N], and so are `numbers`, which count the rows of all manifests from 0.
    `undecodable` counts the rows that were dropped because their image could not be read; N is 0
    where none could. `changed` holds the same images after augmentation, in the same order, where
    both versions were asked for.
    """

    images: Pixels
    tokens: TokenBatch
    label_a: Labels
    label_b: Labels
    numbers: Labels
    undecodable: int
    changed: Pixels | None = None

    def all_images(self) -> Pixels:
        """Return the images, followed by the changed ones where there are any."""
        return self.images if self.changed is None else np.concatenate([self.images, self.changed])

    def inputs(self) -> tuple[npt.NDArray[np.generic], ...]:
        """Return what TrainingStep takes, but for the totals."""
        ids, mask = self.tokens.input_ids, self.tokens.attention_mask
        return self.all_images(), ids, mask, self.label_a, self.label_b

    def micro_batches(self, count: int) -> "list[TrainingBatch]":
        """Split the rows evenly into `count` batches, or into one per row where rows are fewer."""
        return [self._slice(rows) for rows in even_parts(len(self.label_a), count)]

    def _slice(self, rows: slice) -> "TrainingBatch":
        return TrainingBatch(
            self.images[rows],
            TokenBatch(self.tokens.input_ids[rows], self.tokens.attention_mask[rows]),
            self.label_a[rows],
            self.label_b[rows],
            self.numbers[rows],
            0,
            None if self.changed is None else self.changed[rows],
        )


@dataclass(frozen=True)
class FeatureBatch:
    """N rows as features, float32 [N, Dt] and [N, Di]; the rest is as in TrainingBatch."""

    text: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]
    label_a: Labels
    label_b: Labels
    undecodable: int

    def inputs(self) -> tuple[npt.NDArray[np.generic], ...]:
        """Return what FeatureStep takes, but for the totals."""
        return self.text, self.image, self.label_a, self.label_b

    def micro_batches(self, count: int) -> "list[FeatureBatch]":
        """Split the rows evenly, as a TrainingBatch does."""
        return [
            FeatureBatch(
                self.text[rows], self.image[rows], self.label_a[rows], self.label_b[rows], 0
            )
            for rows in even_parts(len(self.label_a), count)
        ]


def even_parts(rows: int, count: int) -> list[slice]:
    """Return the rows of `count` even parts, or of one part per row where rows are fewer."""
    bounds = np.linspace(0, rows, min(count, rows) + 1).round().astype(int)
    return [slice(start, stop) for start, stop in pairwise(bounds)]
