"""China's label of generated content (GB 45438-2025): an `AIGC` object in the metadata."""

from typing import Any

from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.json_text import details_of, parse_object
from aigid.evidence.metadata import Text

_OWN_FIELDS = {"ContentProducer", "ProduceID", "ContentPropagator", "PropagateID"}
# 1: generated; 2: its user declares that it is; 3: a platform suspects it, which is an opinion.
_SAYS = {"1": Says.AI, "2": Says.AI, "3": Says.NONE}


def read_aigc(text: Text, values: dict[str, Any]) -> Finding | None:
    """Return the finding of a label, which is the object itself or stands under `AIGC`."""
    inner = values.get("AIGC", values.get("aigc"))
    if isinstance(inner, str):
        inner = parse_object(inner)
    if inner is None:
        inner = values
    if not isinstance(inner, dict) or "Label" not in inner:
        return None
    if inner is values and text.name != "AIGC" and not _OWN_FIELDS & values.keys():
        return None
    details = details_of(
        inner,
        label=("Label",),
        producer=("ContentProducer",),
        produce_id=("ProduceID",),
        propagator=("ContentPropagator",),
        propagate_id=("PropagateID",),
    )
    says = _SAYS.get(details.get("label", ""), Says.NONE)
    found = ("aigc-label", says, Strength.METADATA, text.found_in)
    return Finding(*found, source=details.get("producer", ""), details=details)
