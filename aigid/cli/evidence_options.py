"""The options about evidence that several commands have."""

from pathlib import Path

from aigid.cli.command import options_under
from aigid.cli.option_types import FILE

_evidence = options_under("Evidence")

TRUST_LIST = _evidence(
    "--trust-list",
    type=FILE,
    metavar="FILE",
    help="Trust C2PA signatures of these issuers (PEM certificates).  [default: trust none]",
)
"""The option that names the trusted issuers."""

READERS = _evidence(
    "--reader",
    "readers",
    multiple=True,
    metavar="NAME",
    help="Run this reader as well: stealth-text, dwt-dct, or a plug-in's. It may decode pixels. "
    "Repeatable.",
)
"""The option that names further readers."""

SCAN_EVIDENCE = (
    _evidence(
        "--evidence",
        is_flag=True,
        help="Also write what the image files say of their origin into the results.",
    ),
    TRUST_LIST,
    READERS,
    _evidence(
        "--hash",
        is_flag=True,
        help="Also write hashes into the results: of each image's bytes, and of its looks. Implies "
        "--reuse-answers.",
    ),
)
"""The options of a scan about what it writes of image files, besides scores."""


def trust_anchors(trust_list: Path | None) -> str:
    """Return the certificates in the file; empty without one. Raises UsageError for others."""
    if trust_list is None:
        return ""
    from aigid.evidence import read_trust_list

    return read_trust_list(trust_list)
