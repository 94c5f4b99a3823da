"""From a manifest's image references to encoded bytes, or to a row's error."""

from aigid.fetch.ahead import FetchAhead, StartedFetch
from aigid.fetch.circuit_breaker import CircuitBreaker
from aigid.fetch.from_memory import ImageInput, content_pixels, read_content
from aigid.fetch.host_queue import HostQueue
from aigid.fetch.image import FetchPolicy, fetch_image, image_root_of, is_remote, web_host
from aigid.fetch.inline import decoded_text
from aigid.fetch.references import ImageReference, image_references

__all__ = [
    "CircuitBreaker",
    "FetchAhead",
    "FetchPolicy",
    "HostQueue",
    "ImageInput",
    "ImageReference",
    "StartedFetch",
    "content_pixels",
    "decoded_text",
    "fetch_image",
    "image_references",
    "image_root_of",
    "is_remote",
    "read_content",
    "web_host",
]
