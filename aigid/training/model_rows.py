"""Labelled manifests as a model reads them: with its own preprocessing, and no pseudo-labels."""

from collections.abc import Sequence
from pathlib import Path

from aigid.contract import TOKENIZER_FILE, ModelContract, load_contract
from aigid.cores import available_cores
from aigid.prompts import PromptEncoder
from aigid.training.checkpoint import Checkpoint, CheckpointInfo
from aigid.training.datasets import LabelledManifest
from aigid.training.image_changes import ImageChange
from aigid.training.labels import LabelChoice
from aigid.training.row_decoder import ReadOptions


def open_for_checkpoint(
    checkpoint: Checkpoint,
    paths: Sequence[str],
    choice: LabelChoice,
    change: ImageChange | None = None,
) -> LabelledManifest:
    """Open labelled manifests as a checkpoint reads them, with its labels.

    `change` is applied to every image first. Raises ManifestError where a manifest cannot be read
    or its labels are invalid, and UsageError where a model predicted them.
    """
    info = checkpoint.info
    return _open((info, checkpoint.tokenizer_file), info.labels, paths, choice, change)


def open_for_repository(
    repository: Path,
    labels: tuple[str, ...] | None,
    paths: Sequence[str],
    choice: LabelChoice,
    change: ImageChange | None = None,
) -> LabelledManifest:
    """Open labelled manifests as the model of a repository reads them, with these `labels`.

    None stands for the labels that `choice` names, or that are found. All else is as in
    `open_for_checkpoint`.
    """
    model = load_contract(repository), repository / TOKENIZER_FILE
    return _open(model, labels, paths, choice, change)


def _open(
    model: tuple[CheckpointInfo | ModelContract, Path],
    labels: tuple[str, ...] | None,
    paths: Sequence[str],
    choice: LabelChoice,
    change: ImageChange | None,
) -> LabelledManifest:
    described, tokenizer_file = model
    manifest = LabelledManifest(
        paths,
        PromptEncoder(tokenizer_file, described.prompt),
        described.image,
        ReadOptions(change, available_cores()),
        choice=choice,
        labels=labels,
    )
    manifest.reject_pseudo_labels()
    return manifest
