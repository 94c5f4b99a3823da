"""The fields of EXIF blocks that speak of an image's origin."""

import struct
from collections.abc import Iterator

from aigid.evidence.limits import MOST_C2PA_BYTES, MOST_TEXT_BYTES
from aigid.evidence.metadata import Metadata

_NAMES = {
    0x010D: "DocumentName",
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x013B: "Artist",
    0x013C: "HostComputer",
    0x8298: "Copyright",
    0x829A: "ExposureTime",
    0x829D: "FNumber",
    0x8827: "ISO",
    0x9003: "DateTimeOriginal",
    0x9286: "UserComment",
    0x927C: "MakerNote",
    0x9C9C: "XPComment",
    0x9C9E: "XPKeywords",
    0xA434: "LensModel",
}
_EXIF_DIRECTORY = 0x8769
# Blocks of other kinds, which TIFF files hold.
_XMP, _IPTC, _C2PA = 0x02BC, 0x83BB, 0xCD41
_WANTED = {*_NAMES, _EXIF_DIRECTORY, _XMP, _IPTC, _C2PA}
_BYTES_OF_TYPE = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
_MOST_ENTRIES = 512
# A maker's note is not text: that there is one is enough.
_PRESENCE_ALONE = ("MakerNote", "ExposureTime", "FNumber", "ISO")


def read_exif(block: bytes, found: Metadata) -> None:
    """Add the fields of an EXIF block; a damaged one gives what can be read."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return
    (first,) = struct.unpack_from(f"{order}I", block, 4)
    later = []
    for tag, value in _entries(block, first, order, found):
        if tag == _EXIF_DIRECTORY and len(value) >= 4:
            later.append(struct.unpack(f"{order}I", value[:4])[0])
        _add(tag, value, order, found)
    for offset in later[:1]:
        for tag, value in _entries(block, offset, order, found):
            _add(tag, value, order, found)


def _entries(block: bytes, offset: int, order: str, found: Metadata) -> Iterator[tuple[int, bytes]]:
    """Yield tag and value of the entries of a directory."""
    if not 8 <= offset <= len(block) - 2:
        return
    (count,) = struct.unpack_from(f"{order}H", block, offset)
    for number in range(min(count, _MOST_ENTRIES)):
        at = offset + 2 + 12 * number
        if at + 12 > len(block) or found.is_full:
            return
        tag, kind, length = struct.unpack_from(f"{order}HHI", block, at)
        if tag not in _WANTED:
            continue
        size = length * (_BYTES_OF_TYPE[kind] if kind < len(_BYTES_OF_TYPE) else 0)
        if size > 4:
            (at_value,) = struct.unpack_from(f"{order}I", block, at + 8)
        else:
            at_value = at + 8
        most = MOST_C2PA_BYTES + 1 if tag == _C2PA else MOST_TEXT_BYTES
        yield tag, block[at_value : at_value + min(size, most)]


def _add(tag: int, value: bytes, order: str, found: Metadata) -> None:
    if tag in (_XMP, _IPTC):
        found.add_block(found.xmp if tag == _XMP else found.iptc, value)
    if tag == _C2PA:
        found.add_c2pa(value)
    name = _NAMES.get(tag)
    if name is None or not value:
        return
    if name in _PRESENCE_ALONE:
        text = "present"
    elif name == "UserComment":
        text = _decode_comment(value, order)
    elif name.startswith("XP"):
        text = value.decode("utf-16-le", "replace")
    else:
        text = value.decode("utf-8", "replace")
    found.add_text("EXIF", name, text.strip("\0 \t\r\n"))


def _decode_comment(value: bytes, order: str) -> str:
    """Return a UserComment's text: ASCII, UTF-8 or UTF-16, with or without the code's name.

    By the standard UTF-16 has the block's byte order. Many programs write the other one, or UTF-8.
    """
    code, body = value[:8], value[8:]
    if code == b"UNICODE\0":
        return _decode_utf16(body, order)
    if code not in (b"ASCII\0\0\0", b"\0" * 8, b"JIS\0\0\0\0\0"):
        body = value
    return body.decode("utf-8", "replace")


def _decode_utf16(body: bytes, order: str) -> str:
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", "replace")
    # Text of any language has ASCII characters, whose high byte is zero.
    high, low = body[:4096:2].count(0), body[1:4096:2].count(0)
    if high == low == 0:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            pass
    if high == low:
        return body.decode("utf-16-be" if order == ">" else "utf-16-le", "replace")
    return body.decode("utf-16-be" if high > low else "utf-16-le", "replace")
