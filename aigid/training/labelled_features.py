"""Features of labelled rows, by whatever encoders made them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aigid.bounded_map import bounded_map
from aigid.cores import available_cores
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch
from aigid.training.datasets import LabelledManifest
from aigid.training.training_batch import TrainingBatch
from aigid.training.training_progress import TrainingProgress

Floats = npt.NDArray[np.float32]

_BATCH_ROWS = 16


@dataclass(frozen=True)
class LabelledFeatures:
    """The features of both encoders for N rows, [N, Dt] and [N, Di], and their labels, int [N]."""

    text: Floats
    image: Floats
    label_a: npt.NDArray[np.int64]
    label_b: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.generic]) -> "LabelledFeatures":
        """Return some rows, by their numbers or a mask."""
        return LabelledFeatures(
            self.text[rows], self.image[rows], self.label_a[rows], self.label_b[rows]
        )


def labelled_features(
    encode: Callable[[Pixels, TokenBatch], tuple[Floats, Floats]],
    manifest: LabelledManifest,
    progress: TrainingProgress,
) -> LabelledFeatures:
    """Return the features that `encode` makes of the manifest's decodable rows, on all cores.

    `encode` uses one core. Raises TrainingError where not one image can be decoded.
    """

    def encode_batch(batch: TrainingBatch) -> tuple[TrainingBatch, tuple[Floats, Floats] | None]:
        return batch, encode(batch.images, batch.tokens) if len(batch.label_a) else None

    parts = []
    progress.start(manifest.rows, 0)
    batches = manifest.batches(_BATCH_ROWS, None)
    for batch, features in bounded_map(encode_batch, batches, available_cores()):
        if features is not None:
            parts.append((*features, batch.label_a, batch.label_b))
        progress.advance(len(batch.label_a) + batch.undecodable, batch.undecodable)
    return LabelledFeatures(*(np.concatenate(column) for column in zip(*parts, strict=True)))
