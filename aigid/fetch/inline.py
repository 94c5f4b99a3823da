"""Images inside a text: `data:` URIs, and base64 without a path ever being taken for it."""

import base64
import re
from urllib.parse import unquote_to_bytes

from aigid.memory_budget import LARGE_ROWS

LONGEST_PATH = 4096
"""The longest path of a local file in characters. Keys of object stores are shorter."""

# The first bytes of image files: of those that can be decoded, and of others that are not paths.
_SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"RIFF",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\x01\0",
    b"\xff\x0a",
    b"\xff\x4f\xff\x51",
    b"<svg",
    b"<?xml",
)
_BOXES = (b"ftyp", b"jP  ", b"JXL ")
_BOXES_AT = slice(4, 8)
_HEAD_CHARACTERS = 64
# Of a text, while it is decoded.
_COPIES = 6
_STANDARD = str.maketrans("-_", "+/")
# data:[type/subtype][;parameter=value][;base64],
_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+*-]+)?((?:;[^;,]*)*),", re.IGNORECASE)


def _starts(signature: bytes) -> set[str]:
    """Return the first three characters of texts that are base64 of a signature, in lower case."""
    whole = signature[:3] if len(signature) > 2 else b""
    heads = [whole] if whole else [signature + bytes([bits << 6]) for bits in range(4)]
    starts = {base64.b64encode(head)[:3].decode().lower() for head in heads}
    return starts | {start.replace("+", "-").replace("/", "_") for start in starts}


INLINE_STARTS = frozenset(
    {"dat"}.union(*map(_starts, (*_SIGNATURES, b"\0\0\0")))  # Sizes of boxes begin with zeros.
)
"""The first three characters, in lower case, of all texts that may be an image."""


def inline_image(text: str) -> bytes | None:
    """Return the image inside a text, or None where the text is a path or URI.

    A text is base64, standard or URL-safe, with or without padding and line breaks, only where it
    begins with the signature of an image file, and is either longer than any path or a whole file
    to its last byte. What cannot be decoded is returned as it is: it is an image, but a damaged
    one.
    """
    if text[:5].lower() == "data:":
        return _of_data_uri(text)
    with LARGE_ROWS.reserve(_COPIES * len(text)):
        return _of_base64("".join(text.split()))


def _of_base64(text: str) -> bytes | None:
    head = _decoded(text[:_HEAD_CHARACTERS])
    if head is None or not (head.startswith(_SIGNATURES) or head[_BOXES_AT] in _BOXES):
        return None
    data = _decoded(text)
    if len(text) > LONGEST_PATH:
        return _utf8(text) if data is None else data
    return data if data is not None and _is_whole(data) else None


def decoded_text(text: str) -> bytes | None:
    """Return what a text that is no path encodes, in base64 or as a `data:` URI, or None."""
    if text[:5].lower() == "data:":
        return _of_data_uri(text)
    with LARGE_ROWS.reserve(_COPIES * len(text)):
        return _decoded("".join(text.split()))


def _of_data_uri(text: str) -> bytes | None:
    match = _DATA_URI.match(text)
    if match is None:
        return None
    is_base64 = match[2].lower().endswith(";base64")
    if not (match[1] or is_base64):
        return None
    with LARGE_ROWS.reserve(_COPIES * len(text)):
        payload = unquote_to_bytes(_utf8(text[match.end() :]))
        if not is_base64:
            return payload
        data = _decoded("".join(payload.decode("latin-1").split()))
        return payload if data is None else data


def _decoded(text: str) -> bytes | None:
    """Return the bytes of base64 without blanks, or None for another text."""
    text = text.translate(_STANDARD).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _is_whole(data: bytes) -> bool:
    """Return whether bytes are a file of an image from its first to its last byte.

    A path that is base64 by chance is no such file.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data[12:16] == b"IHDR" and data[-8:-4] == b"IEND"
    if data.startswith(b"\xff\xd8\xff"):
        return data.endswith(b"\xff\xd9")
    if data.startswith(b"GIF8"):
        return len(data) > 13 and data.endswith(b"\x3b")
    if data.startswith(b"RIFF"):
        return data[8:12] == b"WEBP" and _number(data, 4) + 8 == len(data)
    if data.startswith(b"BM"):
        return _number(data, 2) == len(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return _is_tiff(data)
    return data[_BOXES_AT] in _BOXES and _are_boxes(data)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _is_tiff(data: bytes) -> bool:
    """Return whether the first directory of a TIFF is inside it, with its tags in order."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little" if data[:1] == b"I" else "big")

    start = number(4, 4)
    entries = number(start, 2)
    end = start + 2 + 12 * entries
    tags = [number(at, 2) for at in range(start + 2, min(end, len(data)), 12)]
    return start >= 8 and entries > 0 and end + 4 <= len(data) and tags == sorted(set(tags))


def _are_boxes(data: bytes) -> bool:
    """Return whether the boxes of an AVIF, HEIF, JPEG 2000 or JPEG XL fill the file exactly."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            return False
        at += size
    return at == len(data)
