"""Build a model repository from a checkpoint: export, quantize, compare with torch, lay out."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aigid.contract import ModelContract
from aigid.errors import UsageError
from aigid.export.checkpoint_to_onnx import Precision, export_checkpoint
from aigid.export.onnx_to_int8 import CALIBRATION_ROWS, quantize_graphs
from aigid.export.parity_report import (
    LIMITS,
    Limits,
    ParityReport,
    refuse_shortcomings,
    write_report,
)
from aigid.export.repository_lock import staged_repository
from aigid.export.sample_rows import rows_for
from aigid.export.to_model_repository import fill_repository
from aigid.export.verify_parity import PARITY_ROWS, graph_loaders, measure_parity
from aigid.training.checkpoint import Checkpoint, load_checkpoint

PRECISIONS = tuple(LIMITS)


@dataclass(frozen=True)
class BuildConfig:
    """How a repository is built.

    `calibration` and `parity` are paths of manifests, to calibrate INT8 scales and to compare with
    torch on. `precisions` are published; all are built and compared. `limits` say how far each
    precision may be from float32; an untrained model can exceed the default ones.
    """

    calibration: str
    parity: str
    calibration_rows: int = CALIBRATION_ROWS
    parity_rows: int = PARITY_ROWS
    precisions: tuple[str, ...] = PRECISIONS
    limits: Mapping[str, Limits] = field(default_factory=lambda: LIMITS)

    def __post_init__(self) -> None:
        for name in ("calibration_rows", "parity_rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be at least 1: got {getattr(self, name)}")
        got = ", ".join(self.precisions)
        if not set(self.precisions) <= set(PRECISIONS):
            raise UsageError(f"`precisions` must be among {', '.join(PRECISIONS)}: got {got}")
        if "int8" not in self.precisions:
            raise UsageError(f"`precisions` must include int8, which CPUs run: got {got}")


@dataclass(frozen=True)
class BuiltRepository:
    """A finished build; `graph_bytes` holds each graph's size by its path in the repository."""

    contract: ModelContract
    graph_bytes: dict[str, int]
    parity: ParityReport


def build_repository(checkpoint: Path, repository: Path, config: BuildConfig) -> BuiltRepository:
    """Build the next version of a model repository from a checkpoint folder.

    Raises AigidError if any step fails or an artifact is too far from float32; an existing
    repository stays as it was then.
    """
    loaded = load_checkpoint(checkpoint)
    with staged_repository(repository) as folder:
        # In the staging folder, so that graphs can be hard-linked into place instead of copied.
        graphs = _build_graphs(loaded, folder / ".graphs", config)
        rows = rows_for(loaded, config.parity, config.parity_rows)
        report = measure_parity(loaded, graph_loaders(graphs), rows)
        refuse_shortcomings(report, config.limits)
        published = {name: graphs[name] for name in config.precisions}
        contract = fill_repository(loaded, published, repository, folder)
        shutil.rmtree(folder / ".graphs")
        write_report(report, config.limits, folder)
    built = sorted(repository.glob(f"*/{contract.version}/model.*.onnx"))
    sizes = {path.relative_to(repository).as_posix(): path.stat().st_size for path in built}
    return BuiltRepository(contract, sizes, report)


def _build_graphs(
    checkpoint: Checkpoint, folder: Path, config: BuildConfig
) -> dict[str, dict[str, Path]]:
    """Build the graphs of every precision; return their paths by precision and part."""
    # Both manifests are opened first, to refuse a wrong one before the export, which takes minutes.
    rows = rows_for(checkpoint, config.calibration, config.calibration_rows)
    rows_for(checkpoint, config.parity, config.parity_rows)
    graphs = {
        str(precision): export_checkpoint(checkpoint, folder, precision) for precision in Precision
    }
    return {**graphs, "int8": quantize_graphs(graphs["fp32"], folder, rows)}
