"""Scorers: from pixels and token ids to probabilities, in this process or on Triton servers.

Names are imported on first use: a scan's settings need neither ONNX Runtime nor Triton's client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from aigid.scorers.triton_config import URI_SCHEME, TlsConfig, TritonConfig

if TYPE_CHECKING:
    from aigid.scorers.load import load_scorer
    from aigid.scorers.onnx_embedded import OnnxScorer
    from aigid.scorers.scorer import Probabilities, Scorer, Scores, Scoring
    from aigid.scorers.tensors import (
        BUILD_COMMAND,
        PAIRS_MODEL,
        PARTS,
        TENSORS_MODEL,
        ModelSpec,
        TensorSpec,
        model_specs,
    )
    from aigid.scorers.triton_grpc import TritonScorer
else:
    _MODULES = {
        "load": ("load_scorer",),
        "onnx_embedded": ("OnnxScorer",),
        "scorer": ("Probabilities", "Scorer", "Scores", "Scoring"),
        "tensors": (
            "BUILD_COMMAND",
            "PAIRS_MODEL",
            "PARTS",
            "TENSORS_MODEL",
            "ModelSpec",
            "TensorSpec",
            "model_specs",
        ),
        "triton_grpc": ("TritonScorer",),
    }

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BUILD_COMMAND",
    "PAIRS_MODEL",
    "PARTS",
    "TENSORS_MODEL",
    "URI_SCHEME",
    "ModelSpec",
    "OnnxScorer",
    "Probabilities",
    "Scorer",
    "Scores",
    "Scoring",
    "TensorSpec",
    "TlsConfig",
    "TritonConfig",
    "TritonScorer",
    "load_scorer",
    "model_specs",
]
