"""AVIF: the size of the frames that a decoder will meet, which a container may understate.

Boxes: ISO/IEC 14496-12 and 23008-12. Sequence headers: AV1 Bitstream & Decoding Process
Specification, 5.3 to 5.5.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TypeVar

from aigid.pixels.limits import too_large

Part = TypeVar("Part")

_CONTAINERS = (b"meta", b"moov", b"trak", b"mdia", b"minf", b"stbl")
_CHUNK_OFFSETS = {b"stco": ">I", b"co64": ">Q"}
_MOST_DEPTH = 8
_SEQUENCE_HEADER = 1
# Boxes, places of items, units of coded data. A grid of 100 million pixels has hundreds.
_MOST_PARTS = 100_000


def largest_frame(data: bytes) -> tuple[int, int]:
    """Return the width and height of the largest frame that sequence headers declare.

    (0, 0) where none is found: such a file cannot be decoded. Raises RowFailure where it has too
    many parts, and ValueError, LookupError or struct.error where it is damaged.
    """
    units = (unit for stream in _streams(memoryview(data)) for unit in _units(stream))
    headers = (content for kind, content in _bounded(units) if kind == _SEQUENCE_HEADER)
    sizes = (_declared_size(_Reader(content)) for content in headers)
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def _bounded(parts: Iterable[Part]) -> Iterator[Part]:
    for count, part in enumerate(parts):
        if count == _MOST_PARTS:
            raise too_large(f"an AVIF of more than {_MOST_PARTS} parts")
        yield part


def _streams(data: memoryview) -> Iterator[memoryview]:
    """Yield the coded data of each item, and from the first chunk of each track on."""
    boxes = list(_bounded(_boxes(data, 0, len(data))))
    idat = next((start for kind, start, _ in boxes if kind == b"idat"), 0)
    for kind, start, end in boxes:
        if kind == b"iloc":
            yield from _item_streams(data, list(_bounded(_extents(data[start:end], idat))))
        elif kind in _CHUNK_OFFSETS:
            # After a version, flags and the number of chunks.
            (offset,) = struct.unpack_from(_CHUNK_OFFSETS[kind], data, start + 8)
            yield data[offset:]


def _item_streams(data: memoryview, extents: list[tuple[int, int, int]]) -> Iterator[memoryview]:
    """Yield the coded data of each item. Some items share theirs, as equal tiles do."""
    items = {
        tuple((start, end) for _, start, end in group)
        for _, group in groupby(extents, key=lambda extent: extent[0])
    }
    if sum(end - start for item in items for start, end in item) > 2 * len(data):
        raise ValueError("the items of the AVIF overlap")
    for item in sorted(items):
        yield memoryview(b"".join(data[start:end] for start, end in item))


def _boxes(
    data: memoryview, position: int, end: int, depth: int = 0
) -> Iterator[tuple[bytes, int, int]]:
    """Yield the boxes of a file, those in containers too: kind, start and end of the content."""
    while position + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        last = min(position + size if size else end, end)
        if last < start:
            return
        yield kind, start, last
        if kind in _CONTAINERS and depth < _MOST_DEPTH:
            # `meta` begins with a version and flags.
            yield from _boxes(data, start + 4 * (kind == b"meta"), last, depth + 1)
        position = last


class _Reader:
    """Reads big-endian numbers of any number of bits. Raises ValueError at the end of the data."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._bit = data, 0

    def read(self, bits: int) -> int:
        """Return the next number."""
        first, self._bit = self._bit, self._bit + bits
        stop = -(-self._bit // 8)
        if stop > len(self._data):
            raise ValueError("the AVIF ends too early")
        number = int.from_bytes(self._data[first // 8 : stop], "big")
        return number >> (8 * stop - self._bit) & ((1 << bits) - 1)


def _extents(box: memoryview, idat: int) -> Iterator[tuple[int, int, int]]:
    """Yield what an item location box says: the number of an item, start and end of a part."""
    reader = _Reader(box)
    version = reader.read(8)
    reader.read(24)
    offset_bits, length_bits, base_bits, index_bits = (8 * reader.read(4) for _ in range(4))
    id_bits = 16 if version < 2 else 32
    for item in range(reader.read(id_bits)):
        reader.read(id_bits)
        is_in_idat = version > 0 and reader.read(16) & 15 == 1
        reader.read(16)
        base = reader.read(base_bits) + (idat if is_in_idat else 0)
        # Also where it has no part: each is counted.
        yield item, 0, 0
        for _ in range(reader.read(16)):
            reader.read(index_bits if version else 0)
            start = base + reader.read(offset_bits)
            yield item, start, start + reader.read(length_bits)


def _units(stream: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the units of coded data: kind and content."""
    position = 0
    # What begins with a bit of one is no unit.
    while position < len(stream) and not stream[position] & 0x80:
        header = stream[position]
        # An extension has a byte of its own. Without a size, a unit reaches to the end.
        position += 2 if header & 4 else 1
        size = len(stream) - position
        if header & 2:
            size, position = _read_size(stream, position)
        yield header >> 3, stream[position : position + size]
        position += size


def _read_size(stream: memoryview, position: int) -> tuple[int, int]:
    """Return a number in LEB128, and the position behind it."""
    size = 0
    for index in range(8):
        byte = stream[position + index]
        size |= (byte & 127) << (7 * index)
        if not byte & 128:
            break
    return size, position + index + 1


def _declared_size(reader: _Reader) -> tuple[int, int]:
    """Return the size of the largest frame that a sequence header allows."""
    reader.read(4)
    if reader.read(1):
        # A still image with a short header: its level alone.
        reader.read(5)
    else:
        _skip_operating_points(reader, *_skip_timing(reader))
    width_bits, height_bits = reader.read(4) + 1, reader.read(4) + 1
    return reader.read(width_bits) + 1, reader.read(height_bits) + 1


def _skip_timing(reader: _Reader) -> tuple[bool, int]:
    """Return whether there is a decoder model, and the bits of its delays."""
    if not reader.read(1):
        return False, 0
    reader.read(64)
    if reader.read(1):
        zeros = 0
        while not reader.read(1):
            zeros += 1
        reader.read(zeros)
    if not reader.read(1):
        return False, 0
    delay_bits = reader.read(5) + 1
    reader.read(32 + 5 + 5)
    return True, delay_bits


def _skip_operating_points(reader: _Reader, has_model: bool, delay_bits: int) -> None:
    has_display_delay = reader.read(1)
    for _ in range(reader.read(5) + 1):
        reader.read(12)
        if reader.read(5) > 7:
            reader.read(1)
        if has_model and reader.read(1):
            reader.read(2 * delay_bits + 1)
        if has_display_delay and reader.read(1):
            reader.read(4)
