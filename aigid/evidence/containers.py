"""The metadata blocks of image files, found without decoding pixels."""

import struct
import zlib
from collections.abc import Iterator

from aigid.evidence.boxes import read_boxes
from aigid.evidence.gif import read_gif
from aigid.evidence.limits import MOST_TEXT_BYTES
from aigid.evidence.metadata import Metadata

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP, _PHOTOSHOP = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"
_MORE_XMP_HEADER = struct.Struct(">32sII")
_IPTC_RESOURCE = 0x0404
_TIFF = (b"II*\0", b"MM\0*")


def read_containers(data: bytes) -> Metadata:
    """Return the metadata blocks of a file; what is damaged or of another format has none."""
    found = Metadata()
    if data[:2] == b"\xff\xd8":
        _read_jpeg(data, found)
    elif data[:8] == _PNG:
        _read_png(data, found)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _read_webp(data, found)
    elif data[:4] in _TIFF:
        # The file is an EXIF block itself.
        found.exif.append(data)
    elif data[4:8] == b"ftyp":
        read_boxes(data, found)
    elif data[:3] == b"GIF":
        read_gif(data, found)
    return found


def name_media_type(data: bytes) -> str:
    """Return the media type of a file; empty where it is none that may hold a C2PA manifest."""
    if data[:2] == b"\xff\xd8":
        return "image/jpeg"
    if data[:8] == _PNG:
        return "image/png"
    if data[:4] == b"RIFF":
        return "image/webp"
    if data[:4] in _TIFF:
        return "image/tiff"
    if data[4:8] == b"ftyp":
        return "image/avif" if b"avif" in data[8:64] else "image/heic"
    return "image/gif" if data[:3] == b"GIF" else ""


def _read_jpeg(data: bytes, found: Metadata) -> None:
    more_xmp: dict[bytes, dict[int, bytes]] = {}
    for marker, body in _jpeg_segments(data, found):
        if marker == 0xE1 and body.startswith(_EXIF):
            found.add_block(found.exif, body[len(_EXIF) :])
        elif marker == 0xE1 and body.startswith(_XMP):
            found.add_block(found.xmp, body[len(_XMP) :])
        elif marker == 0xE1 and body.startswith(_MORE_XMP):
            _keep_more_xmp(body[len(_MORE_XMP) :], more_xmp, found)
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            _read_photoshop(body[len(_PHOTOSHOP) :], found)
        elif marker == 0xFE and not found.is_full:
            found.add_text("JPEG", "comment", body.decode("utf-8", "replace").strip("\0"))
        elif marker == 0xEB and body.startswith(b"JP") and b"jumb" in body[:32]:
            # The box's own header stands in each of the segments that it is split into.
            found.add_c2pa(body[8:] if body[4:8] == b"\0\0\0\1" else body[16:])
    for parts in more_xmp.values():
        # Its bytes are counted already.
        found.xmp.append(b"".join(parts[offset] for offset in sorted(parts)))


def _keep_more_xmp(body: bytes, parts: dict[bytes, dict[int, bytes]], found: Metadata) -> None:
    """Keep a part of extended XMP: by its digest, and by its offset in the whole."""
    if len(body) > _MORE_XMP_HEADER.size and len(parts) < 8 and not found.is_full:
        found.spend(len(body))
        digest, _, offset = _MORE_XMP_HEADER.unpack_from(body)
        parts.setdefault(digest, {})[offset] = body[_MORE_XMP_HEADER.size :]


def _jpeg_segments(data: bytes, found: Metadata) -> Iterator[tuple[int, bytes]]:
    """Yield marker and body of the segments before the first scan."""
    at = 2
    while found.blocks.take() and data[at : at + 1] == b"\xff":
        while data[at + 1 : at + 2] == b"\xff":  # fill bytes
            if not found.blocks.take():
                return
            at += 1
        if at + 4 > len(data) or data[at + 1] in (0xDA, 0xD9):
            return
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at + 1], data[at + 4 : at + 2 + size]
        at += 2 + max(size, 2)


def _read_photoshop(data: bytes, found: Metadata) -> None:
    """Keep the IPTC block of Photoshop's image resources."""
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 7 <= len(data) and found.blocks.take():
        kind = int.from_bytes(data[at + 4 : at + 6], "big")
        at += 6 + (data[at + 6] + 2) // 2 * 2  # a name with its length, padded to be even
        size = int.from_bytes(data[at : at + 4], "big")
        if kind == _IPTC_RESOURCE:
            found.add_block(found.iptc, data[at + 4 : at + 4 + size])
        at += 4 + (size + 1) // 2 * 2


def _read_png(data: bytes, found: Metadata) -> None:
    at = len(_PNG)
    while at + 8 <= len(data) and found.blocks.take():
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = slice(at + 8, at + 8 + size)
        if kind in (b"tEXt", b"zTXt", b"iTXt") and not found.is_full:
            _read_png_text(kind, data[body], found)
        elif kind == b"eXIf":
            found.add_block(found.exif, data[body].removeprefix(_EXIF))
        elif kind == b"caBX":
            found.add_c2pa(data[body])
        at = body.stop + 4


def _read_png_text(kind: bytes, body: bytes, found: Metadata) -> None:
    key, _, rest = body.partition(b"\0")
    name = key[:79].decode("latin-1")
    if kind == b"tEXt":
        # By its standard Latin-1, but many programs write UTF-8.
        text = _decoded(rest[:MOST_TEXT_BYTES])
    elif kind == b"zTXt":
        text = _decoded(_inflated(rest[1:]))
    else:
        _, _, rest_of_text = rest[2:].partition(b"\0")
        _, _, value = rest_of_text.partition(b"\0")
        text = _decoded(_inflated(value) if rest[:1] == b"\1" else value[:MOST_TEXT_BYTES])
    found.spend(len(text))
    if name == "XML:com.adobe.xmp":
        found.add_block(found.xmp, text.encode("utf-8", "replace"))
    elif name.startswith("Raw profile type "):
        _read_raw_profile(name.rpartition(" ")[2], text, found)
    else:
        found.add_text("PNG", name, text)


def _read_raw_profile(kind: str, text: str, found: Metadata) -> None:
    """Keep a block that ImageMagick wrote into PNG text, as hexadecimal digits."""
    try:
        block = bytes.fromhex(text.split(None, 2)[2])
    except (ValueError, IndexError):
        return
    if kind in ("exif", "APP1") and block.startswith(_XMP):
        found.add_block(found.xmp, block[len(_XMP) :])
    elif kind in ("exif", "APP1"):
        found.add_block(found.exif, block.removeprefix(_EXIF))
    elif kind == "xmp":
        found.add_block(found.xmp, block)
    elif kind == "iptc" and block.startswith(b"8BIM"):
        _read_photoshop(block, found)
    elif kind == "iptc":
        found.add_block(found.iptc, block)


def _inflated(data: bytes) -> bytes:
    """Decompress up to the limit; damaged data gives what stands before the damage."""
    try:
        return zlib.decompressobj().decompress(data, MOST_TEXT_BYTES)
    except zlib.error:
        return b""


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _read_webp(data: bytes, found: Metadata) -> None:
    at = 12
    while at + 8 <= len(data) and found.blocks.take():
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = slice(at + 8, at + 8 + size)
        if kind == b"EXIF":
            found.add_block(found.exif, data[body].removeprefix(_EXIF))
        elif kind == b"XMP ":
            found.add_block(found.xmp, data[body])
        elif kind == b"C2PA":
            found.add_c2pa(data[body])
        at = body.stop + size % 2
