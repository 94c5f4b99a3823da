"""The evidence of an image as the two columns of a result row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from aigid.evidence.findings import Finding, Says, Strength, evidence_of
from aigid.evidence.limits import MOST_ROW_BYTES


@dataclass(frozen=True)
class RowEvidence:
    """What the strongest finding says, and all findings as JSON; None where there is none."""

    says: Says
    detail: str | None

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> Self:
        """Return the evidence of findings, which come with the strongest first.

        The JSON has at most 16 KiB: what does not fit is left out, and counted in a last finding of
        the kind "left-out".
        """
        return cls(evidence_of(findings), _as_json(findings) if findings else None)


def _as_json(findings: Sequence[Finding]) -> str:
    texts, room = list[str](), MOST_ROW_BYTES
    for finding in findings:
        text = _text_of(finding)
        if len(text.encode()) > room and not texts:
            text = _text_of(replace(finding, source="", details={}))
        if len(text.encode()) > room:
            left_out = {"findings": str(len(findings) - len(texts))}
            more = Finding("left-out", Says.NONE, Strength.METADATA, "", details=left_out)
            texts.append(_text_of(more))
            break
        texts.append(text)
        room -= len(text.encode())
    return f"[{', '.join(texts)}]"


def _text_of(finding: Finding) -> str:
    text = json.dumps(finding.to_json(), ensure_ascii=False)
    # Half of a surrogate pair is not Unicode, and no column of text takes it.
    return text.encode("utf-8", "replace").decode()
