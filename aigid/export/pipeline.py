"""Build a model repository from a checkpoint: export, quantize, fit, compare, lay out."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aigid.contract import ModelContract
from aigid.errors import UsageError
from aigid.export.checkpoint_to_onnx import Precision, export_encoders, export_part, write_heads
from aigid.export.fit_on_graphs import FittedModel, fit_on_features, graph_features
from aigid.export.onnx_to_int8 import CALIBRATION_ROWS, quantize_graphs
from aigid.export.parity_report import (
    LIMITS,
    Limits,
    ParityReport,
    refuse_shortcomings,
    write_report,
)
from aigid.export.repository_lock import staged_repository
from aigid.export.sample_rows import RowSource, SampleRow
from aigid.export.to_model_repository import CPU_PRECISIONS, cpu_precision_of, fill_repository
from aigid.export.verify_parity import PARITY_ROWS, graph_loaders, measure_parity
from aigid.progress_bar import ShownProgress, SilentProgress, counted
from aigid.training.checkpoint import Checkpoint, load_checkpoint
from aigid.training.data_name import data_name
from aigid.training.datasets import LabelledManifest
from aigid.training.labels import LabelChoice
from aigid.training.model_rows import open_for_checkpoint

PRECISIONS = tuple(LIMITS)


@dataclass(frozen=True)
class BuildConfig:
    """How a repository is built.

    `calibration` and `validation` are paths of manifests. INT8 scales are set on
    `calibration_rows` rows of the first. On the second, `parity_rows` rows are compared with torch
    at most, and all rows fit temperatures and thresholds if there are labels, which `labels` helps
    to find. `precisions` are built, compared and published. `limits` say how far each of them may
    be from float32; an untrained model can exceed the default ones.
    """

    calibration: str
    validation: str
    calibration_rows: int = CALIBRATION_ROWS
    parity_rows: int = PARITY_ROWS
    precisions: tuple[str, ...] = PRECISIONS
    labels: LabelChoice = LabelChoice()
    limits: Mapping[str, Limits] = field(default_factory=lambda: LIMITS)

    def __post_init__(self) -> None:
        for name in ("calibration_rows", "parity_rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be at least 1: got {getattr(self, name)}")
        got = ", ".join(self.precisions)
        if not set(self.precisions) <= set(PRECISIONS):
            raise UsageError(f"`precisions` must be among {', '.join(PRECISIONS)}: got {got}")
        if not set(self.precisions) & set(CPU_PRECISIONS):
            known = " or ".join(CPU_PRECISIONS)
            raise UsageError(f"`precisions` must include {known}, which CPUs run: got {got}")

    @property
    def cpu_precision(self) -> str:
        """The precision that CPUs run."""
        return cpu_precision_of(self.precisions)


@dataclass(frozen=True)
class BuiltRepository:
    """A finished build.

    `graph_bytes` holds each graph's size by its path in the repository. `found_by` has the share of
    AI-generated rows that the threshold of each rate (as text) finds, and `refused` the reason for
    what was not fitted.
    """

    contract: ModelContract
    graph_bytes: dict[str, int]
    parity: ParityReport
    found_by: Mapping[str, float]
    refused: Mapping[str, str]


def build_repository(
    checkpoint: Path,
    repository: Path,
    config: BuildConfig,
    progress: ShownProgress = SilentProgress(),
) -> BuiltRepository:
    """Build the next version of a model repository from a checkpoint folder.

    Raises AigidError if any step fails or a published graph is too far from float32; an existing
    repository stays as it was then.
    """
    loaded = load_checkpoint(checkpoint)
    # Both manifests are opened first, to refuse a wrong one before the export, which takes minutes.
    calibration = RowSource(loaded, config.calibration)
    scale_rows = calibration.sample(config.calibration_rows)
    validation = RowSource(loaded, config.validation, config.labels)
    labelled = _open_labelled(loaded, config) if validation.has_labels else None
    with staged_repository(repository) as folder:
        # In the staging folder, so that graphs can be hard-linked into place instead of copied.
        scratch = folder / ".graphs"
        encoders = _build_encoders(loaded, scratch, config, scale_rows, progress)
        fitted = _fit(loaded, encoders[config.cpu_precision], labelled, config, progress)
        graphs = {
            name: parts
            | {"fusion_heads": write_heads(fitted.heads, fitted.checkpoint, scratch, name)}
            for name, parts in encoders.items()
            if name in config.precisions
        }
        progress.message(f"compare {', '.join(graphs)} with torch")
        rows = validation.sample(config.parity_rows, fewest=1)
        report = measure_parity(fitted.checkpoint, graph_loaders(graphs), rows)
        refuse_shortcomings(report, config.limits)
        contract = fill_repository(fitted.checkpoint, graphs, repository, folder)
        shutil.rmtree(scratch)
        write_report(report, config.limits, folder)
    built = sorted(repository.glob(f"*/{contract.version}/model.*.onnx"))
    sizes = {path.relative_to(repository).as_posix(): path.stat().st_size for path in built}
    return BuiltRepository(contract, sizes, report, fitted.found_by, fitted.refused)


def _open_labelled(checkpoint: Checkpoint, config: BuildConfig) -> LabelledManifest:
    """Open the validation manifest with its labels, as those of this model.

    Raises ManifestError without rows of both classes, and UsageError for pseudo-labels.
    """
    manifest = open_for_checkpoint(checkpoint, (config.validation,), config.labels)
    manifest.row_labels.check_both("temperatures and thresholds need")
    return manifest


def _build_encoders(
    checkpoint: Checkpoint,
    folder: Path,
    config: BuildConfig,
    rows: Iterator[SampleRow],
    progress: ShownProgress,
) -> dict[str, dict[str, Path]]:
    """Build the encoders' graphs that are published or quantized; return them by precision."""
    # INT8 graphs are made of float32 ones.
    wanted = {*config.precisions, *(["fp32"] if "int8" in config.precisions else [])}
    graphs: dict[str, dict[str, Path]] = {}
    for precision in Precision:
        if precision in wanted:
            progress.message(f"export {precision}")
            graphs[precision.value] = export_encoders(checkpoint, folder, precision)
    if "int8" in config.precisions:
        progress.message(f"quantize to int8 on {counted(config.calibration_rows, 'row')}")
        graphs["int8"] = quantize_graphs(graphs["fp32"], folder, rows)
    return graphs


def _fit(
    checkpoint: Checkpoint,
    encoders: Mapping[str, Path],
    validation: LabelledManifest | None,
    config: BuildConfig,
    progress: ShownProgress,
) -> FittedModel:
    """Fit temperatures and thresholds to the graphs of CPUs, if there are labels to fit them on."""
    if validation is None:
        progress.message(
            f"{config.validation} has no labels: temperatures and thresholds stay those of the "
            "checkpoint, and macro-F1 is not compared"
        )
        return FittedModel(checkpoint, export_part(checkpoint, "fusion_heads"), {}, {})
    for line in validation.row_labels.describe():
        progress.message(f"validation: {line}")
    progress.message(f"fit temperatures and thresholds to the scores of {config.cpu_precision}")
    features = graph_features(encoders, validation, progress)
    return fit_on_features(
        checkpoint, features, data=data_name([config.validation]), graphs=config.cpu_precision
    )
