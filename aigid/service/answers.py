"""Answers as JSON."""

from collections.abc import Sequence
from typing import Any

from aigid.detection import DecisionRule, Detection
from aigid.version import __version__


def model_document(rule: DecisionRule, precision: str) -> dict[str, Any]:
    """Return what is the same for all answers: the model, its notice, the threshold."""
    contract = rule.contract
    return {
        "name": contract.name,
        "fingerprint": contract.fingerprint,
        "precision": precision,
        "labels": list(contract.labels),
        "notice": contract.notice or None,
        "threshold": rule.threshold,
        "mode": rule.verdicts.mode.value,
        "aigid_version": __version__,
    }


def detection_document(detection: Detection, labels: Sequence[str]) -> dict[str, Any]:
    """Return the answer for one pair."""
    p_source, error = detection.p_source, detection.error
    return {
        "verdict": detection.verdict,
        "p_ai": detection.p_ai,
        "is_ai": detection.is_ai,
        "source": detection.source,
        "p_source": None if p_source is None else dict(zip(labels, p_source, strict=True)),
        "known_score": detection.known_score,
        "evidence": detection.evidence,
        "findings": [finding.to_json() for finding in detection.findings],
        "error": None if error is None else {"code": error.code, "detail": error.detail},
    }
