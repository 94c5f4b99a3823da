"""From encoded image bytes to the model's pixels: the only image preprocessing in aigid."""

from aigid.pixels.decode import (
    changed_pixels,
    decode_image,
    image_pixels,
    open_image,
    whole_image,
)
from aigid.pixels.limits import DecodeLimits, check_byte_limit
from aigid.pixels.opening import FORMATS
from aigid.pixels.resize import BLOCK, Box, Pixels

__all__ = [
    "BLOCK",
    "FORMATS",
    "Box",
    "DecodeLimits",
    "Pixels",
    "changed_pixels",
    "check_byte_limit",
    "decode_image",
    "image_pixels",
    "open_image",
    "whole_image",
]
