"""The features of a manifest's rows, made once by frozen encoders, as batches of any epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object
from torch import Tensor

from aigid.sources import ManifestFile
from aigid.training.datasets import LabelledManifest, ProcessRank, StreamOrder, groups_of
from aigid.training.fusion_model import FusionModel
from aigid.training.labelled_features import LabelledFeatures
from aigid.training.training_batch import FeatureBatch, TrainingBatch
from aigid.training.training_progress import TrainingProgress

Floats = npt.NDArray[np.float32]

_BATCH_ROWS = 64


@dataclass(frozen=True)
class FeatureTable:
    """The features of N rows, [N, Dt] and [N, Di], and their numbers in the manifest, int64 [N].

    The numbers rise. Rows whose image could not be read are missing.
    """

    text: Floats
    image: Floats
    numbers: npt.NDArray[np.int64]

    def labelled(self, manifest: LabelledManifest) -> LabelledFeatures:
        """Return the features with the rows' labels in the manifest."""
        label_b = manifest.label_codes()[self.numbers].astype(np.int64)
        return LabelledFeatures(self.text, self.image, (label_b != 0).astype(np.int64), label_b)


def encode(model: FusionModel, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
    """Return both features of a batch's rows, on the model's device."""
    device = model.head_a.weight.device
    image, input_ids, attention_mask = (
        torch.from_numpy(array).to(device)
        for array in (batch.images, batch.tokens.input_ids, batch.tokens.attention_mask)
    )
    return model.text_features(input_ids, attention_mask), model.image_features(image)


def make_features(
    model: FusionModel,
    manifest: LabelledManifest,
    progress: TrainingProgress,
    process: ProcessRank = ProcessRank(),
) -> FeatureTable:
    """Return the features of the manifest's decodable rows, made by all processes together.

    The main process reports the progress of its own part. Raises TrainingError where not one image
    can be decoded.
    """
    model.eval()
    parts: list[tuple[npt.NDArray[np.generic], ...]] = []
    if process.rank == 0:
        progress.start(manifest.rows, 0)
    with torch.inference_mode():
        for batch in manifest.batches(_BATCH_ROWS, None, process):
            if len(batch.numbers):
                features = (part.float().cpu().numpy() for part in encode(model, batch))
                parts.append((*features, batch.numbers))
            if process.rank == 0:
                rows = len(batch.numbers) + batch.undecodable
                progress.advance(rows * process.world_size, batch.undecodable)
    gathered: list[tuple[npt.NDArray[np.generic], ...]] = gather_object(parts)
    text, image, numbers = (np.concatenate(column) for column in zip(*gathered, strict=True))
    order = np.argsort(numbers)
    return FeatureTable(text[order], image[order], numbers[order])


def checkpoint_features(
    model: FusionModel, manifest: LabelledManifest, progress: TrainingProgress
) -> LabelledFeatures:
    """Return the features of the manifest's decodable rows with their labels, in this process."""
    return make_features(model, manifest, progress).labelled(manifest)


class FeatureRows:
    """A manifest's rows as their features: the batches of an epoch, without an image."""

    def __init__(self, manifest: LabelledManifest, table: FeatureTable) -> None:
        """Take the rows' order and labels from `manifest`, and their features from `table`."""
        self._manifest = manifest
        self._features = table.labelled(manifest)
        self._places = np.full(len(manifest.label_codes()), -1)
        self._places[table.numbers] = np.arange(len(table.numbers))

    @property
    def rows(self) -> int:
        """The number of rows that are in batches or undecodable, as in the manifest."""
        return self._manifest.rows

    @property
    def files(self) -> list[ManifestFile]:
        """The files of the manifest."""
        return self._manifest.files

    def batches(
        self, batch_rows: int, order: StreamOrder | None, process: ProcessRank = ProcessRank()
    ) -> Iterator[FeatureBatch]:
        """Yield the rows in the batches that the manifest itself has, as `LabelledManifest` does.

        Images are as they were when the features were made: without any augmentation.
        """
        own = slice(process.rank, None, process.world_size)
        for group in groups_of(self._manifest.row_numbers(order), batch_rows):
            places = self._places[group[own]]
            decoded = places[places >= 0]
            found = self._features.take(decoded)
            yield FeatureBatch(
                found.text, found.image, found.label_a, found.label_b, len(places) - len(decoded)
            )
