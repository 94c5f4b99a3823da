"""The findings in a value of `evidence_detail`, as short texts. They are a stranger's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTRADICTION = "contradiction"
STRENGTHS = ("signed_trusted", "signed_untrusted", "metadata", "camera_exif")
"""How hard findings are to forge, the hardest first."""

_SHOWN_CHARACTERS = 160
_MOST_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class ShownFinding:
    """A finding as a report shows it."""

    kind: str
    says: str
    source: str
    strength: str
    found_in: str
    details: Mapping[str, str]

    @property
    def rank(self) -> int:
        """How hard it is to forge: 0 for the hardest."""
        return STRENGTHS.index(self.strength) if self.strength in STRENGTHS else len(STRENGTHS)


def parse_findings(text: str, *, details: bool = True) -> list[ShownFinding] | None:
    """Return the findings in a value of `evidence_detail`; None where it cannot be read.

    Without `details` they have none, which is enough to count them, and faster.
    """
    if len(text) > _MOST_CHARACTERS:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
        return None
    return [_finding(one, details) for one in values]


def shown(value: Any) -> str:
    """Return a value as a short text."""
    text = "" if value is None else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _finding(values: dict[str, Any], with_details: bool) -> ShownFinding:
    details = values.get("details") if with_details else None
    found = details.items() if isinstance(details, dict) else ()
    return ShownFinding(
        kind=shown(values.get("kind")),
        says=shown(values.get("says")),
        source=shown(values.get("source")),
        strength=shown(values.get("strength")),
        found_in=shown(values.get("found_in")),
        details={shown(name): shown(value) for name, value in found},
    )
