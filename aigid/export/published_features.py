"""The features that the graphs of a model repository make of labelled rows."""

from pathlib import Path

from aigid.contract import TOKENIZER_FILE, load_contract
from aigid.cores import available_cores
from aigid.prompts import PromptEncoder
from aigid.scorers import OnnxScorer
from aigid.training.datasets import LabelledManifest
from aigid.training.labelled_features import LabelledFeatures, labelled_features
from aigid.training.labels import LabelChoice
from aigid.training.row_decoder import ReadOptions
from aigid.training.training_progress import TrainingProgress


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
    return labelled_features(OnnxScorer(repository).features, manifest, progress)
