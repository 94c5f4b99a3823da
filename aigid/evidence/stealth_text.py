"""Text in the lowest bits of pixels, as NovelAI and extensions of other programs hide it.

The bits run down the columns: a signature of 15 characters, the number of the text's bits (32 bits,
big-endian), then the text, which is gzip where the signature ends in "comp". With "png" in it the
bits are those of alpha, with "rgb" of red, green and blue in turn.
"""

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.json_text import detail, parse_object
from aigid.evidence.limits import MOST_TEXT_BYTES, MOST_TEXTS
from aigid.evidence.metadata import Metadata
from aigid.evidence.read import find_in_texts
from aigid.evidence.readers import Cost, Reader, Takes

_SIGNATURES = {
    b"stealth_pnginfo": "alpha",
    b"stealth_pngcomp": "alpha",
    b"stealth_rgbinfo": "colours",
    b"stealth_rgbcomp": "colours",
}
_SIGNATURE_BYTES, _HEAD_BYTES = 15, 19
_GZIP = 16 + zlib.MAX_WBITS


def read(image: Image.Image) -> Iterator[Finding]:
    """Yield the findings of the text in an image's pixels."""
    for place, channels in _channels(image):
        head = _bytes(channels, 0, _HEAD_BYTES)
        signature = head[:_SIGNATURE_BYTES]
        if _SIGNATURES.get(signature) != place:
            continue
        size = int.from_bytes(head[_SIGNATURE_BYTES:], "big") // 8
        body = _bytes(channels, _HEAD_BYTES, min(size, MOST_TEXT_BYTES))
        text = _inflated(body) if signature.endswith(b"comp") else body
        yield from _findings(text.decode("utf-8", "replace"), place)


READER = Reader("stealth-text", Takes.PIXELS, Cost.LOW, read)


def _channels(image: Image.Image) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Yield the channels that may hold bits: uint8 [height, width, channels], by place."""
    if image.mode in ("RGBA", "LA"):
        yield "alpha", np.asarray(image.getchannel("A"))[:, :, None]
    if image.mode in ("RGBA", "RGB"):
        yield "colours", np.asarray(image)[:, :, :3]


def _bytes(channels: npt.NDArray[np.uint8], start: int, count: int) -> bytes:
    """Return bytes of the bit stream; fewer where it ends."""
    per_column = channels.shape[0] * channels.shape[2]
    first = start * 8 // per_column
    last = -(-(start + count) * 8 // per_column)
    columns = channels[:, first:last].swapaxes(0, 1)
    bits = (columns & 1).reshape(-1)[start * 8 - first * per_column :][: count * 8]
    return np.packbits(bits).tobytes()


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(_GZIP).decompress(data, MOST_TEXT_BYTES)
    except zlib.error:
        return b""


def _findings(text: str, place: str) -> Iterator[Finding]:
    """Yield what the text says. NovelAI's is an object with the texts that its PNG chunks have."""
    fields = parse_object(text)
    found, where = Metadata(), f"stealth text in {place}:"
    for name, value in list((fields or {}).items())[:MOST_TEXTS]:
        if isinstance(value, str):
            found.add_text(where, name[:79], value)
    if not found.texts:
        found.add_text(where.rstrip(":"), "", text)
    findings = list(find_in_texts(found))
    yield from findings
    if not findings:
        # It is damaged, or of a program that is not known.
        details = {"text": detail(text)} if text.strip("\0 ") else {"state": "damaged"}
        yield Finding(
            "stealth-text", Says.NONE, Strength.METADATA, where.rstrip(":"), details=details
        )
