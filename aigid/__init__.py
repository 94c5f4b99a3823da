"""aigid tells which images are AI-generated, and by which model, at scale.

`Detector` answers for a few images in memory. `scan` does so for whole manifests of image-prompt
pairs, and writes the answers into a folder of Parquet files.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from aigid.errors import (
    AigidError,
    BuildError,
    CheckpointError,
    ClusterError,
    ContractError,
    IncompleteScanError,
    ManifestError,
    MissingExtraError,
    ModelNoticeWarning,
    ResultsError,
    ResumeMismatchError,
    ServerError,
    StorageError,
    TrainingError,
    UsageError,
)
from aigid.version import __version__

if TYPE_CHECKING:
    from aigid.api import scan
    from aigid.config import RayConfig, ScanConfig
    from aigid.detection import Detection
    from aigid.detector import Detector
    from aigid.evidence import EvidenceReader, Finding, Says, Strength, read_evidence
    from aigid.records import ErrorCode, Mode, RowError, Verdict
    from aigid.results import ScanSummary
    from aigid.scorers import TlsConfig, TritonConfig
else:
    # Names are imported on first use: `import aigid` needs neither NumPy nor ONNX Runtime.
    _MODULES = {
        "api": ("scan",),
        "config": ("RayConfig", "ScanConfig"),
        "detection": ("Detection",),
        "detector": ("Detector",),
        "evidence": ("EvidenceReader", "Finding", "Says", "Strength", "read_evidence"),
        "records": ("ErrorCode", "Mode", "RowError", "Verdict"),
        "results": ("ScanSummary",),
        "scorers": ("TlsConfig", "TritonConfig"),
    }

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "AigidError",
    "BuildError",
    "CheckpointError",
    "ClusterError",
    "ContractError",
    "Detection",
    "Detector",
    "ErrorCode",
    "EvidenceReader",
    "Finding",
    "IncompleteScanError",
    "ManifestError",
    "MissingExtraError",
    "Mode",
    "ModelNoticeWarning",
    "RayConfig",
    "ResultsError",
    "ResumeMismatchError",
    "RowError",
    "Says",
    "ScanConfig",
    "ScanSummary",
    "ServerError",
    "StorageError",
    "Strength",
    "TlsConfig",
    "TrainingError",
    "TritonConfig",
    "UsageError",
    "Verdict",
    "__version__",
    "read_evidence",
    "scan",
]
