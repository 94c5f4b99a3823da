"""From a manifest's image references to encoded bytes, or to a row's error."""

from aigid.fetch.ahead import FetchAhead
from aigid.fetch.circuit_breaker import CircuitBreaker
from aigid.fetch.from_memory import ImageInput, read_pixels
from aigid.fetch.image import (
    FetchPolicy,
    ImageReference,
    fetch_image,
    image_references,
    image_root_of,
    is_remote,
)

__all__ = [
    "CircuitBreaker",
    "FetchAhead",
    "FetchPolicy",
    "ImageInput",
    "ImageReference",
    "fetch_image",
    "image_references",
    "image_root_of",
    "is_remote",
    "read_pixels",
]
