"""The description of the service for programs (OpenAPI 3.1)."""

import json
from importlib.resources import files
from typing import Any

from aigid.service.config import ServiceLimits
from aigid.version import __version__


def openapi_document(limits: ServiceLimits) -> dict[str, Any]:
    """Return the description, with this version and these limits."""
    text = files("aigid.service").joinpath("pages/openapi.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    document["info"]["version"] = __version__
    pairs = document["components"]["schemas"]["Request"]["properties"]["pairs"]
    pairs["maxItems"] = limits.max_pairs
    return document
