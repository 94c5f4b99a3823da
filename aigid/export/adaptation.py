"""Fit new heads to a few labelled rows of one's own, on the graphs of a model repository."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from aigid.contract import FittedOn, ModelContract, Temperatures, load_contract
from aigid.export.checkpoint_to_onnx import export_heads
from aigid.export.new_heads import NewHeads, write_new_heads
from aigid.export.repository_lock import check_can_be_written
from aigid.progress_bar import counted
from aigid.records import without_secrets
from aigid.scorers import OnnxScorer
from aigid.training.data_name import data_name
from aigid.training.datasets import LabelledManifest
from aigid.training.few_shot import WITHOUT_LABEL, check_class_rows, fit_few_shot
from aigid.training.inference import LabelledLogits
from aigid.training.labelled_features import LabelledFeatures, labelled_features
from aigid.training.labels import OTHER_GENERATOR, LabelChoice
from aigid.training.metrics import LabelledScores, Metrics, compute_metrics
from aigid.training.model_card import repository_card
from aigid.training.model_rows import open_for_repository
from aigid.training.open_set import fit_open_set
from aigid.training.thresholds import Decisions, fit_decisions
from aigid.training.training_progress import TrainingProgress

_SUFFIX = "-adapted"


@dataclass(frozen=True)
class AdaptationConfig:
    """Which heads are fitted, on what, and where they go.

    `paths` are labelled manifests. The encoders are those of the model in `repository`. The new
    model is a version of the repository `out`. None stands for a `name` and a `notice` that tell of
    the adaptation.
    """

    repository: Path
    paths: tuple[str, ...]
    out: Path
    labels: LabelChoice = LabelChoice()
    name: str | None = None
    notice: str | None = None


@dataclass(frozen=True)
class Adaptation:
    """The new model, and its cross-validated metrics.

    `found_by` has the share of AI-generated rows that the threshold of each rate (as text) finds,
    `refused` the reason for what was not fitted, and `remarks` sentences about the labels: their
    columns, the classes, what counts for A only, or not at all.
    """

    contract: ModelContract
    metrics: Metrics
    found_by: Mapping[str, float]
    uses_prompts: bool
    refused: Mapping[str, str]
    remarks: Sequence[str]


def adapt(config: AdaptationConfig, progress: TrainingProgress) -> Adaptation:
    """Fit new heads to labelled rows, and write them as a version of a model repository.

    Temperatures and thresholds are fitted on cross-validated scores. Raises ManifestError where a
    class has too few rows for that, before any row is scored if the labels show it.
    """
    contract = load_contract(config.repository)
    manifest = open_for_repository(config.repository, None, config.paths, config.labels)
    labels = _labels_with_rows(manifest, config)
    check_can_be_written(config.out)
    features = labelled_features(OnnxScorer(config.repository).features, manifest, progress)
    features = _with_labels(features, manifest.labels, labels)
    found = fit_few_shot(features, labels)
    label_a, label_b = torch.from_numpy(features.label_a), torch.from_numpy(features.label_b)
    rows = LabelledLogits(found.logits, label_a, label_b, undecodable=0)
    open_set = fit_open_set(found.heads, found.logits, Temperatures(), label_b, labels)
    scores = rows.calibrated(found.heads, Temperatures(), labels)
    decisions = fit_decisions(scores, open_set)
    new = _contract_of(config, contract, scores, decisions)
    graph = export_heads(
        found.heads,
        new.temperatures,
        text_features=new.text_features,
        image_features=new.image_features,
    )
    written = write_new_heads(
        config.repository, NewHeads(found.heads, graph, new), config.out, repository_card
    )
    metrics = compute_metrics(scores, open_set=decisions.open_set)
    remarks = tuple(manifest.row_labels.describe(manifest.rows - len(features.label_a)))
    return Adaptation(
        written, metrics, decisions.found_by, found.uses_prompts, decisions.refused, remarks
    )


def _labels_with_rows(manifest: LabelledManifest, config: AdaptationConfig) -> tuple[str, ...]:
    """Return the new model's labels: those asked for, or of those found the ones that have rows.

    Raises ManifestError where a class has too few rows.
    """
    counts = manifest.row_labels.counts
    rows = dict(zip(manifest.labels, counts.classes, strict=True))
    if config.labels.labels is None:
        real, *_ = manifest.labels
        rows = {name: count for name, count in rows.items() if count or name == real}
    check_class_rows(
        rows | {WITHOUT_LABEL: counts.without_class}, ", ".join(map(without_secrets, config.paths))
    )
    return tuple(rows)


def _contract_of(
    config: AdaptationConfig, base: ModelContract, scores: LabelledScores, decisions: Decisions
) -> ModelContract:
    """Return the contract of the new model, whose heads need no temperatures."""
    rows, data = len(scores.label_a), data_name(config.paths)
    notice = f"Adapted to {counted(rows, 'row')} of {data}: it is meant for images like these."
    return replace(
        base,
        name=config.name or base.name.removesuffix(_SUFFIX) + _SUFFIX,
        notice=notice if config.notice is None else config.notice,
        labels=scores.labels,
        temperatures=Temperatures(),
        thresholds=decisions.thresholds,
        miss_thresholds=decisions.miss_thresholds,
        open_set=decisions.open_set,
        fitted_on=FittedOn(data, rows, int((scores.label_a == 0).sum()), base.cpu_precision),
    )


def _with_labels(
    features: LabelledFeatures, before: Sequence[str], labels: Sequence[str]
) -> LabelledFeatures:
    """Return the features with `label_b` as indexes into other labels; negative codes stay."""
    positions = {name: position for position, name in enumerate(labels)}
    codes = np.array([positions.get(name, OTHER_GENERATOR) for name in before], np.int64)
    label_b = np.where(features.label_b < 0, features.label_b, codes[features.label_b])
    return replace(features, label_b=label_b)
