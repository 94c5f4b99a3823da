"""Fit a model repository's temperatures and thresholds anew, on labelled rows of one's own.

Nothing is trained: the graphs of the encoders stay, and so do the weights of the heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aigid.contract import ModelContract, load_contract, rows_needed
from aigid.errors import UsageError
from aigid.export.fit_on_graphs import fit_heads, fit_thresholds_alone
from aigid.export.new_heads import NewHeads, read_heads, write_new_heads
from aigid.export.repository_lock import check_can_be_written
from aigid.records import without_secrets
from aigid.scorers import OnnxScorer
from aigid.training.data_name import data_name
from aigid.training.datasets import LabelledManifest
from aigid.training.labelled_features import labelled_features
from aigid.training.labels import LabelChoice
from aigid.training.metrics import LabelledScores
from aigid.training.model_card import read_card, recalibrated_card
from aigid.training.model_rows import open_for_repository
from aigid.training.thresholds import RATES
from aigid.training.training_progress import TrainingProgress


@dataclass(frozen=True)
class CalibrationConfig:
    """What is fitted anew, and on what.

    `paths` are labelled manifests, read with the labels of the model in `repository`. The new
    version goes to the repository `out`, or to `repository` itself. Thresholds are fitted for RATES
    and for those that the model has, as far as there are enough real rows, and for those of
    `max_fpr` in any case. With `thresholds_only`, temperatures and the open set stay: the new
    version gives the same scores, and has the same fingerprint.
    """

    repository: Path
    paths: tuple[str, ...]
    out: Path | None = None
    labels: LabelChoice = LabelChoice()
    max_fpr: tuple[float, ...] = ()
    thresholds_only: bool = False

    def __post_init__(self) -> None:
        wrong = [rate for rate in self.max_fpr if not 0 < rate < 1]
        if wrong:
            raise UsageError(f"`max_fpr` must be between 0 and 1: got {wrong[0]:g}")

    @property
    def target(self) -> Path:
        """The repository that gets the new version."""
        return self.out or self.repository


@dataclass(frozen=True)
class Recalibration:
    """The contract before and after, and the scores of the rows at the new temperatures.

    `found_by` has the share of AI-generated rows that the threshold of each rate (as text) finds,
    and `refused` the reason for what was not fitted. `remarks` are sentences about the labels:
    their columns, the classes, what is left out.
    """

    before: ModelContract
    contract: ModelContract
    scores: LabelledScores
    found_by: Mapping[str, float]
    refused: Mapping[str, str]
    remarks: Sequence[str]


def recalibrate(config: CalibrationConfig, progress: TrainingProgress) -> Recalibration:
    """Fit temperatures, thresholds and the open-set threshold anew, and write a new version.

    Raises ManifestError where the rows are all real or all AI-generated, and UsageError where they
    are too few for a rate of `max_fpr`: before any row is scored if the labels show it.
    """
    contract = load_contract(config.repository)
    labels = contract.labels
    manifest = open_for_repository(config.repository, labels, config.paths, config.labels)
    _check_rows(manifest, config)
    check_can_be_written(config.target)
    heads = read_heads(config.repository, contract)
    features = labelled_features(OnnxScorer(config.repository).features, manifest, progress)
    rates = dict.fromkeys((*RATES, *map(float, contract.thresholds), *config.max_fpr))
    if config.thresholds_only:
        fitted = fit_thresholds_alone(heads, features, contract, rates)
    else:
        fitted = fit_heads(heads, features, labels, contract.temperatures, rates)
    for rate in config.max_fpr:
        if f"{rate:g}" in fitted.decisions.refused:
            raise UsageError(f"`max_fpr`: {fitted.decisions.refused[f'{rate:g}']}")
    new = replace(
        contract,
        temperatures=fitted.temperatures,
        thresholds=fitted.decisions.thresholds,
        miss_thresholds=fitted.decisions.miss_thresholds,
        open_set=fitted.decisions.open_set,
        fitted_on=fitted.fitted_on(data_name(config.paths), contract.cpu_precision),
    )
    written = write_new_heads(
        config.repository,
        NewHeads(heads, fitted.graph, new),
        config.target,
        partial(recalibrated_card, read_card(config.repository)),
    )
    undecodable = manifest.rows - len(features.label_a)
    remarks = tuple(manifest.row_labels.describe(undecodable))
    found_by, refused = fitted.decisions.found_by, fitted.decisions.refused
    return Recalibration(contract, written, fitted.scores, found_by, refused, remarks)


def _check_rows(manifest: LabelledManifest, config: CalibrationConfig) -> None:
    manifest.row_labels.check_both("temperatures and thresholds need")
    counts, path = manifest.row_labels.counts, without_secrets(config.paths[0])
    for rate in config.max_fpr:
        if counts.real < rows_needed(rate):
            raise UsageError(
                f"`max_fpr` {rate:g}: needs {rows_needed(rate):,} real rows: "
                f"{path} has {counts.real:,}"
            )
