"""The reader of evidence that all images of a scan, or of a detector, share."""

from collections.abc import Iterable

from aigid.evidence.c2pa_manifest import check_trust_anchors
from aigid.evidence.findings import Finding
from aigid.evidence.read import read_evidence
from aigid.evidence.readers import load_readers
from aigid.extras import missing_extra


class EvidenceReader:
    """Reads the evidence of image files. Threads can share it.

    `trust_anchors` are PEM certificates of trusted issuers, `readers` names of further readers.

    Raises UsageError for anchors or readers that are none, and MissingExtraError without the extra
    `evidence`: there, the same image would have less evidence.
    """

    def __init__(self, trust_anchors: str = "", readers: Iterable[str] = ()) -> None:
        try:
            import c2pa  # noqa: F401 - only whether it is there
        except ModuleNotFoundError as error:
            raise missing_extra("`evidence`", error, "evidence") from error
        self._trust_anchors = check_trust_anchors(trust_anchors) if trust_anchors else ""
        self._readers = load_readers(readers)

    def read(self, data: bytes) -> tuple[Finding, ...]:
        """Return the findings of an image file, the strongest first.

        It raises nothing, whatever the bytes are.
        """
        return read_evidence(data, self._trust_anchors, self._readers)
