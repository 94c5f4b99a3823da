"""Build a model repository from a checkpoint: ONNX graphs, INT8, parity, TensorRT engines.

Needs the extra `build`. The names below are loaded when they are first used, so that importing one
module of this package imports only what that module needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aigid.extras import missing_extra

if TYPE_CHECKING:
    from aigid.export.adaptation import Adaptation, AdaptationConfig, adapt
    from aigid.export.authors_to_checkpoint import convert_weights
    from aigid.export.checkpoint_to_half import halve_checkpoint
    from aigid.export.checkpoint_to_onnx import Precision, export_checkpoint
    from aigid.export.engine_timing import Timing, time_engines
    from aigid.export.new_heads import lacks_engine
    from aigid.export.onnx_to_int8 import CALIBRATION_ROWS, quantize_graphs
    from aigid.export.onnx_to_tensorrt import EngineSettings, build_engines
    from aigid.export.parity_report import (
        LIMITS,
        Limits,
        ParityReport,
        refuse_shortcomings,
        report_text,
        write_report,
    )
    from aigid.export.pipeline import PRECISIONS, BuildConfig, BuiltRepository, build_repository
    from aigid.export.recalibration import CalibrationConfig, Recalibration, recalibrate
    from aigid.export.repository_versions import prune_versions
    from aigid.export.sample_rows import rows_for
    from aigid.export.self_training import SelfTrainingConfig, self_train
    from aigid.export.tensorrt_compiler import Compiler
    from aigid.export.verify_parity import PARITY_ROWS, measure_parity, measure_repository

__all__ = [
    "Adaptation",
    "AdaptationConfig",
    "BuildConfig",
    "BuiltRepository",
    "CALIBRATION_ROWS",
    "CalibrationConfig",
    "Compiler",
    "EngineSettings",
    "LIMITS",
    "Limits",
    "PARITY_ROWS",
    "PRECISIONS",
    "ParityReport",
    "Precision",
    "Recalibration",
    "SelfTrainingConfig",
    "Timing",
    "adapt",
    "build_engines",
    "build_repository",
    "convert_weights",
    "export_checkpoint",
    "halve_checkpoint",
    "lacks_engine",
    "measure_parity",
    "measure_repository",
    "prune_versions",
    "quantize_graphs",
    "recalibrate",
    "refuse_shortcomings",
    "report_text",
    "rows_for",
    "self_train",
    "time_engines",
    "write_report",
]

_NAMES = {
    "adaptation": (
        "Adaptation",
        "AdaptationConfig",
        "adapt",
    ),
    "authors_to_checkpoint": ("convert_weights",),
    "checkpoint_to_half": ("halve_checkpoint",),
    "checkpoint_to_onnx": (
        "Precision",
        "export_checkpoint",
    ),
    "engine_timing": (
        "Timing",
        "time_engines",
    ),
    "new_heads": ("lacks_engine",),
    "onnx_to_int8": (
        "CALIBRATION_ROWS",
        "quantize_graphs",
    ),
    "onnx_to_tensorrt": (
        "EngineSettings",
        "build_engines",
    ),
    "parity_report": (
        "LIMITS",
        "Limits",
        "ParityReport",
        "refuse_shortcomings",
        "report_text",
        "write_report",
    ),
    "pipeline": (
        "PRECISIONS",
        "BuildConfig",
        "BuiltRepository",
        "build_repository",
    ),
    "recalibration": (
        "CalibrationConfig",
        "Recalibration",
        "recalibrate",
    ),
    "repository_versions": ("prune_versions",),
    "sample_rows": ("rows_for",),
    "self_training": (
        "SelfTrainingConfig",
        "self_train",
    ),
    "tensorrt_compiler": ("Compiler",),
    "verify_parity": (
        "PARITY_ROWS",
        "measure_parity",
        "measure_repository",
    ),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a name from its module. Raises MissingExtraError if a package is not installed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        raise missing_extra("building models", error, "build") from error
