"""A checkpoint to a model repository in one command: export, quantize, compare with torch, lay out."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aigid.contract import ModelContract
from aigid.errors import UsageError
from aigid.export.checkpoint_to_onnx import Precision, export_checkpoint
from aigid.export.onnx_to_int8 import CALIBRATION_ROWS, quantize_graphs
from aigid.export.repository_lock import staged_repository
from aigid.export.sample_rows import rows_for
from aigid.export.to_model_repository import fill_repository
from aigid.export.verify_parity import (
    LIMITS,
    PARITY_ROWS,
    Limits,
    ParityReport,
    loaders,
    measure_parity,
    refuse_shortcomings,
    write_report,
)
from aigid.training.checkpoint import Checkpoint, load_checkpoint

PRECISIONS = tuple(LIMITS)


@dataclass(frozen=True)
class BuildConfig:
    """How a repository is built: manifests to calibrate and to compare on, rows of each, and the precisions published.

    `limits` say how far each precision may be from float32: a model that was not trained can be beyond the usual ones.
    """

    calibration: str
    parity: str
    calibration_rows: int = CALIBRATION_ROWS
    parity_rows: int = PARITY_ROWS
    precisions: tuple[str, ...] = PRECISIONS
    limits: Mapping[str, Limits] = field(default_factory=lambda: LIMITS)

    def __post_init__(self) -> None:
        if "int8" not in self.precisions:
            raise UsageError(
                f"--precision {', '.join(self.precisions)}: int8 must be among them: it is what CPUs run"
            )


@dataclass(frozen=True)
class BuiltRepository:
    """What a build made: the contract, each graph's size in bytes by its path in the repository, and the parity report."""

    contract: ModelContract
    graph_bytes: dict[str, int]
    parity: ParityReport


def build_repository(checkpoint: Path, repository: Path, config: BuildConfig) -> BuiltRepository:
    """Build the next version of the model repository of a checkpoint folder.

    Raises AigidError, and leaves an existing repository as it was, where any step fails or an artifact is too far from
    float32.
    """
    loaded = load_checkpoint(checkpoint)
    with staged_repository(repository) as folder:
        # On the disk where they will stay: linked there, not copied.
        graphs = _build_graphs(loaded, folder / ".graphs", config)
        report = measure_parity(
            loaded, loaders(graphs), rows_for(loaded, config.parity, config.parity_rows)
        )
        refuse_shortcomings(report, config.limits)
        contract = fill_repository(
            loaded, {name: graphs[name] for name in config.precisions}, repository, folder
        )
        shutil.rmtree(folder / ".graphs")
        write_report(report, config.limits, folder)
    built = sorted(repository.glob(f"*/{contract.version}/model.*.onnx"))
    sizes = {path.relative_to(repository).as_posix(): path.stat().st_size for path in built}
    return BuiltRepository(contract, sizes, report)


def _build_graphs(
    checkpoint: Checkpoint, folder: Path, config: BuildConfig
) -> dict[str, dict[str, Path]]:
    """The graphs of every precision by part; all are made and compared, whichever are published."""
    # Opened first: a manifest that will not do is said before the minutes that exporting takes.
    rows = rows_for(checkpoint, config.calibration, config.calibration_rows)
    rows_for(checkpoint, config.parity, config.parity_rows)
    graphs = {
        str(precision): export_checkpoint(checkpoint, folder, precision) for precision in Precision
    }
    return {**graphs, "int8": quantize_graphs(graphs["fp32"], folder, rows)}
