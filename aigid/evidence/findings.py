"""What an image file says of its origin: findings, their strength and their order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any


class Says(StrEnum):
    """What a finding says of the image."""

    AI = "ai"
    """A generative model made it."""
    CAMERA = "camera"
    """A camera or a scanner took it."""
    EDITED = "edited"
    """A person or a tool changed it after it was made."""
    NONE = "none"
    """Nothing about its origin, as with a signature that cannot be read."""


class Strength(IntEnum):
    """How hard a finding is to forge. The names in lower case are those of the JSON."""

    CAMERA_EXIF = 1
    """Camera fields in EXIF, which most editors copy."""
    METADATA = 2
    """Plain metadata, which anybody can write."""
    SIGNED_UNTRUSTED = 3
    """A valid signature of somebody who is on no trust list."""
    SIGNED_TRUSTED = 4
    """A valid signature of somebody who is on a trust list."""


@dataclass(frozen=True)
class Finding:
    """One thing that the file says of the image.

    `kind` names the reader, as in "comfyui". `source` is the generator or the device, empty where
    the file does not name it. `found_in` is the field, as in "PNG parameters". `details` are short
    texts by name, such as "model", "prompt", "seed" and "steps". The texts are a stranger's: escape
    them before they are shown.
    """

    kind: str
    says: Says
    strength: Strength
    found_in: str
    source: str = ""
    details: Mapping[str, str] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON types."""
        return {
            "kind": self.kind,
            "says": self.says.value,
            "source": self.source,
            "strength": self.strength.name.lower(),
            "found_in": self.found_in,
            "details": dict(self.details),
        }


_ORDER_AT_A_TIE = (Says.AI, Says.EDITED, Says.CAMERA, Says.NONE)


def strongest(findings: Iterable[Finding]) -> Finding | None:
    """Return the strongest finding that says something, None where there is none."""
    telling = [finding for finding in findings if finding.says is not Says.NONE]
    return min(telling, key=_rank) if telling else None


def evidence_of(findings: Iterable[Finding]) -> Says:
    """Return what a file says of its origin: what the strongest finding says, or `none`."""
    best = strongest(findings)
    return best.says if best else Says.NONE


def strongest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings in order: what says something, the strongest first, then the others."""
    return tuple(sorted(findings, key=lambda one: (one.says is Says.NONE, *_rank(one))))


def _rank(finding: Finding) -> tuple[int, int]:
    return -finding.strength, _ORDER_AT_A_TIE.index(finding.says)
