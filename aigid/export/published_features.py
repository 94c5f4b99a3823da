"""The features that the graphs of a model repository make of labelled rows."""

from pathlib import Path

import numpy as np

from aigid.bounded_map import bounded_map
from aigid.contract import TOKENIZER_FILE, load_contract
from aigid.cores import available_cores
from aigid.export.fit_on_graphs import Floats, LabelledFeatures
from aigid.prompts import PromptEncoder
from aigid.scorers import OnnxScorer
from aigid.training.datasets import LabelledManifest
from aigid.training.labels import LabelChoice
from aigid.training.row_decoder import ReadOptions
from aigid.training.training_batch import TrainingBatch
from aigid.training.training_progress import TrainingProgress

_BATCH_ROWS = 32


def open_rows(
    repository: Path,
    paths: tuple[str, ...],
    choice: LabelChoice,
    labels: tuple[str, ...] | None = None,
) -> LabelledManifest:
    """Open labelled manifests, to be read as the model of a repository reads them.

    Labels are found, or read as the model's `labels`. Raises ManifestError where a manifest cannot
    be read or its labels are invalid, and UsageError where a model predicted them.
    """
    contract = load_contract(repository)
    manifest = LabelledManifest(
        paths,
        PromptEncoder(repository / TOKENIZER_FILE, contract.prompt),
        contract.image,
        ReadOptions(threads=available_cores()),
        choice=choice,
        labels=labels,
    )
    manifest.reject_pseudo_labels()
    return manifest


def published_features(
    repository: Path, manifest: LabelledManifest, progress: TrainingProgress
) -> LabelledFeatures:
    """Return the features of a manifest's decodable rows, by the graphs that CPUs run.

    They are those that the embedded scorer's heads read, to the last bit. Raises ContractError
    where a graph is missing or damaged, and TrainingError where not one image can be decoded.
    """
    scorer = OnnxScorer(repository)

    def encode(batch: TrainingBatch) -> tuple[TrainingBatch, tuple[Floats, Floats] | None]:
        found = scorer.features(batch.images, batch.tokens) if len(batch.label_a) else None
        return batch, found

    parts = []
    progress.start(manifest.rows, 0)
    batches = manifest.batches(_BATCH_ROWS, None)
    for batch, features in bounded_map(encode, batches, available_cores()):
        if features is not None:
            parts.append((*features, batch.label_a, batch.label_b))
        progress.advance(len(batch.label_a) + batch.undecodable, batch.undecodable)
    return LabelledFeatures(*(np.concatenate(column) for column in zip(*parts, strict=True)))
