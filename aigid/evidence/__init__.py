"""What image files say of their origin: C2PA, generators' own metadata, cameras' EXIF."""

from aigid.evidence.c2pa_manifest import read_trust_list
from aigid.evidence.findings import Finding, Says, Strength, evidence_of, strongest
from aigid.evidence.read import read_evidence
from aigid.evidence.reader import EvidenceReader
from aigid.evidence.readers import Cost, Reader, Readers, Takes, load_readers
from aigid.evidence.row_evidence import RowEvidence

__all__ = [
    "Cost",
    "EvidenceReader",
    "Finding",
    "Reader",
    "Readers",
    "RowEvidence",
    "Says",
    "Strength",
    "Takes",
    "evidence_of",
    "load_readers",
    "read_evidence",
    "read_trust_list",
    "strongest",
]
