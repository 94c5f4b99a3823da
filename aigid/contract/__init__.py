"""The model's contract, as data beside its weights: what it reads, and how to read its answers."""

from aigid.contract.decision_rules import (
    CONFIDENCE,
    FittedOn,
    MissThreshold,
    OpenSet,
    Temperatures,
    Threshold,
    check_labels,
    rows_needed,
)
from aigid.contract.inputs import ImageSpec, PromptSpec, Resizing
from aigid.contract.model_contract import ModelContract, fingerprint_of
from aigid.contract.repository import (
    CONTRACT_FILE,
    TOKENIZER_FILE,
    find_model,
    load_contract,
    save_contract,
)
from aigid.contract.strict_json import from_strict_dict, read_json

__all__ = [
    "CONFIDENCE",
    "CONTRACT_FILE",
    "TOKENIZER_FILE",
    "FittedOn",
    "ImageSpec",
    "MissThreshold",
    "ModelContract",
    "OpenSet",
    "PromptSpec",
    "Resizing",
    "Temperatures",
    "Threshold",
    "check_labels",
    "find_model",
    "fingerprint_of",
    "from_strict_dict",
    "load_contract",
    "read_json",
    "rows_needed",
    "save_contract",
]
