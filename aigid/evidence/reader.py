"""The reader of evidence that all images of a scan share."""

from dataclasses import dataclass

from aigid.evidence.c2pa_manifest import check_trust_anchors
from aigid.evidence.read import read_evidence
from aigid.evidence.row_evidence import RowEvidence
from aigid.extras import missing_extra


@dataclass(frozen=True)
class EvidenceReader:
    """Reads the evidence of image files. `trust_anchors` are PEM certificates of trusted issuers.

    Raises UsageError for anchors that are none, and MissingExtraError without the extra `evidence`:
    there, the same image would have less evidence.
    """

    trust_anchors: str = ""

    def __post_init__(self) -> None:
        try:
            import c2pa  # noqa: F401 - only whether it is there
        except ModuleNotFoundError as error:
            raise missing_extra("`evidence`", error, "evidence") from error
        if self.trust_anchors:
            check_trust_anchors(self.trust_anchors)

    def read(self, data: bytes) -> RowEvidence:
        """Return the evidence of an image file. Raises nothing, whatever the bytes are."""
        return RowEvidence.of(read_evidence(data, self.trust_anchors))
