"""The metadata of AVIF and HEIC files: EXIF and XMP as items, C2PA in a box of its own.

Boxes and items: ISO/IEC 14496-12.
"""

import struct
from collections.abc import Iterator

from aigid.evidence.limits import MOST_TEXT_BYTES
from aigid.evidence.metadata import Metadata

_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP = b"application/rdf+xml"
_MOST_ITEMS = 1024


def read_boxes(data: bytes, found: Metadata) -> None:
    """Keep the blocks of a file of boxes; damaged boxes end it."""
    try:
        for kind, start, end in _boxes(data, 0, len(data), found):
            if kind == b"meta":
                _read_items(data, start + 4, end, found)
            elif kind == b"uuid" and data[start : start + 16] == _C2PA:
                # Version, purpose and an offset stand before the store.
                first = data.find(b"jumb", start, start + 100)
                found.add_c2pa(data[first - 4 : end] if first > 0 else data[start:end])
    except (struct.error, IndexError):
        return


def _boxes(data: bytes, at: int, end: int, found: Metadata) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of the boxes of one level."""
    while at + 8 <= end and found.blocks.take():
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        last = min(at + size if size else end, end)
        if last < start:
            return
        yield kind, start, last
        at = last


def _read_items(data: bytes, at: int, end: int, found: Metadata) -> None:
    """Keep the items of a `meta` box that are EXIF or XMP."""
    wanted: dict[int, bytes] = {}
    parts: dict[int, bytes] = {}
    content = list(_boxes(data, at, end, found))
    in_box = next((start for kind, start, _ in content if kind == b"idat"), 0)
    for kind, start, last in content:
        if kind == b"iinf":
            wanted = dict(_kinds_of_items(data, start, last, found))
    for kind, start, last in content:
        if kind == b"iloc":
            parts = dict(_items(data, data[start:last], in_box, set(wanted)))
    for item, kind in wanted.items():
        block = parts.get(item, b"")
        if kind == b"Exif":
            # An offset, which counts from its own end.
            found.add_block(found.exif, block[4 + int.from_bytes(block[:4], "big") :])
        else:
            found.add_block(found.xmp, block)


def _kinds_of_items(
    data: bytes, start: int, end: int, found: Metadata
) -> Iterator[tuple[int, bytes]]:
    """Yield number and kind of the items that are EXIF or XMP."""
    first = start + (6 if data[start] == 0 else 8)
    for kind, at, last in _boxes(data, first, end, found):
        version = data[at]
        if kind != b"infe" or version < 2:
            continue
        size = 2 if version == 2 else 4
        number = int.from_bytes(data[at + 4 : at + 4 + size], "big")
        item = data[at + 6 + size : at + 10 + size]
        if item == b"Exif" or (item == b"mime" and _XMP in data[at:last][:300]):
            yield number, item


class _Numbers:
    """Reads big-endian numbers of whole bytes. Past the end they are 0."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> int:
        """Return the next number of `size` bytes."""
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "big")


def _items(data: bytes, box: bytes, in_box: int, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the wanted items of an item location box."""
    numbers = _Numbers(box)
    version = numbers.take(1)
    numbers.take(3)
    sizes, more_sizes = numbers.take(1), numbers.take(1)
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more_sizes >> 4
    index_size = more_sizes & 15 if version else 0
    number_size = 2 if version < 2 else 4
    for _ in range(min(numbers.take(number_size), _MOST_ITEMS)):
        number = numbers.take(number_size)
        is_in_box = version > 0 and numbers.take(2) & 15 == 1
        numbers.take(2)
        base = numbers.take(base_size) + (in_box if is_in_box else 0)
        content = b""
        for _ in range(min(numbers.take(2), _MOST_ITEMS)):
            numbers.take(index_size)
            first = base + numbers.take(offset_size)
            size = numbers.take(length_size)
            if number in wanted and len(content) < MOST_TEXT_BYTES:
                content += data[first : first + min(size, MOST_TEXT_BYTES)]
        yield number, content
