"""The options about evidence that several commands have."""

from pathlib import Path

from aigid.cli.command import options_under
from aigid.cli.option_types import FILE

TRUST_LIST = options_under("Evidence")(
    "--trust-list",
    type=FILE,
    metavar="FILE",
    help="Trust C2PA signatures of these issuers (PEM certificates).  [default: trust none]",
)
"""The option that names the trusted issuers."""

READERS = options_under("Evidence")(
    "--reader",
    multiple=True,
    metavar="NAME",
    help="Run this reader as well: stealth-text, dwt-dct, or a plug-in's. It may decode pixels. "
    "Repeatable.",
)
"""The option that names further readers."""


def trust_anchors(trust_list: Path | None) -> str:
    """Return the certificates in the file; empty without one. Raises UsageError for others."""
    if trust_list is None:
        return ""
    from aigid.evidence import read_trust_list

    return read_trust_list(trust_list)
