"""The metadata of GIF files: comments, and XMP and C2PA in application extensions."""

from aigid.evidence.limits import MOST_TEXT_BYTES
from aigid.evidence.metadata import Metadata

_EXTENSION, _IMAGE = 0x21, 0x2C
_COMMENT, _APPLICATION = 0xFE, 0xFF
_XMP, _C2PA = b"XMP DataXMP", b"C2PA_GIF\x01\0\0"
# After the XMP, which is no sequence of blocks: bytes from 255 to 0, with which it ends for readers
# of blocks.
_END_OF_XMP = b"\x01\xff\xfe"


def read_gif(data: bytes, found: Metadata) -> None:
    """Keep the blocks of a GIF."""
    at = 13 + _table_bytes(data[10:11])
    while at < len(data) and found.blocks.take():
        if data[at] == _IMAGE:
            # A descriptor of ten bytes, its colours, and the size of the codes.
            _, at = _blocks(data, at + 11 + _table_bytes(data[at + 9 : at + 10]), found, keep=False)
        elif data[at] == _EXTENSION:
            at = _read_extension(data, at + 2, data[at + 1 : at + 2], found)
        else:
            return


def _table_bytes(flags: bytes) -> int:
    """Return the size of a table of colours, as the flags tell."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _read_extension(data: bytes, at: int, label: bytes, found: Metadata) -> int:
    """Keep an extension's content, and return where the next block begins."""
    name = data[at + 1 : at + 12]
    if label == bytes([_COMMENT]):
        content, at = _blocks(data, at, found)
        found.add_text("GIF", "comment", content.decode("utf-8", "replace").strip("\0"))
    elif label == bytes([_APPLICATION]) and name == _XMP:
        end = data.find(_END_OF_XMP, at + 12)
        found.add_block(found.xmp, data[at + 12 : end if end > 0 else at + 12 + MOST_TEXT_BYTES])
        _, at = _blocks(data, at, found, keep=False)
    elif label == bytes([_APPLICATION]) and name == _C2PA:
        content, at = _blocks(data, at + 12, found)
        found.add_c2pa(content)
    else:
        _, at = _blocks(data, at, found, keep=False)
    return at


def _blocks(data: bytes, at: int, found: Metadata, *, keep: bool = True) -> tuple[bytes, int]:
    """Return the content of the blocks from a place on, and the place behind them."""
    parts: list[bytes] = []
    while at < len(data) and data[at]:
        if keep:
            parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return b"".join(parts), at + 1
