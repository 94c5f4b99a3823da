"""What image files say of their origin: C2PA, generators' own metadata, cameras' EXIF."""

from aigid.evidence.c2pa_manifest import read_trust_list
from aigid.evidence.findings import Finding, Says, Strength, evidence_of, strongest
from aigid.evidence.read import read_evidence
from aigid.evidence.reader import EvidenceReader
from aigid.evidence.row_evidence import RowEvidence

__all__ = [
    "EvidenceReader",
    "Finding",
    "RowEvidence",
    "Says",
    "Strength",
    "evidence_of",
    "read_evidence",
    "read_trust_list",
    "strongest",
]
