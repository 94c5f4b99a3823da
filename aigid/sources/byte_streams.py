"""Streams of bytes, and the decompression of one that is too large for memory."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

PIECE_BYTES = 1 << 20
"""The bytes that are read, or decompressed, at a time."""

# Snappy's compressors never look further back, though its format would let them.
_WINDOW_BYTES = 1 << 16
_STREAMED = {"GZIP": "gzip", "ZSTD": "zstd", "BROTLI": "brotli"}
COMPRESSIONS = frozenset({"UNCOMPRESSED", "SNAPPY", *_STREAMED})
"""The compressions that can be undone piece by piece."""


class ByteStream:
    """Reads numbers and runs of bytes from pieces; raises pyarrow.ArrowInvalid at their end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece, self._at = pieces, b"", 0

    def parts(self, count: int) -> Iterator[memoryview]:
        """Yield the next `count` bytes in parts, none of them larger than a piece."""
        while count:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._pieces, b""), 0
                if not self._piece:
                    raise pa.ArrowInvalid("a page ends too early")
            part = memoryview(self._piece)[self._at : self._at + count]
            self._at += len(part)
            count -= len(part)
            yield part

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self._at + count
        if end <= len(self._piece):
            data, self._at = self._piece[self._at : end], end
            return data
        return b"".join(self.parts(count))

    def some(self, most: int) -> bytes:
        """Return up to `most` of the next bytes, none at the end."""
        if self._at == len(self._piece):
            self._piece, self._at = next(self._pieces, b""), 0
        data = self._piece[self._at : self._at + most]
        self._at += len(data)
        return data

    def byte(self) -> int:
        """Return the next byte."""
        return self.read(1)[0]

    def varint(self) -> int:
        """Return a number of 7 bits a byte, the lowest first."""
        value = shift = 0
        while (part := self.byte()) & 0x80:
            value |= (part & 0x7F) << shift
            shift += 7
        return value | part << shift


def decompressed(compression: str, stored: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of compressed pieces; `compression` is one of COMPRESSIONS.

    Raises pyarrow.ArrowException or OSError for damaged pieces.
    """
    if compression == "UNCOMPRESSED":
        yield from stored
    elif compression == "SNAPPY":
        yield from _without_snappy(ByteStream(stored))
    else:
        file: Any = _ReadOnly(ByteStream(stored).some)
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), _STREAMED[compression]) as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece


class _ReadOnly:
    """As much of a Python file as PyArrow needs to read one from its start."""

    closed = False

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read

    def close(self) -> None:
        self.closed = True


def _without_snappy(stored: ByteStream) -> Iterator[bytes]:
    """Undo Snappy's raw format. PyArrow does so only for a whole page at once.

    Source: https://github.com/google/snappy/blob/main/format_description.txt
    """
    left = stored.varint()
    done = bytearray()
    while left:
        tag = stored.byte()
        if tag & 3:
            length = _copy(done, tag, stored)
        else:
            length = (tag >> 2) + 1
            if length > 60:
                length = int.from_bytes(stored.read(length - 60), "little") + 1
            for part in stored.parts(min(length, left)):
                done += part
                if len(done) > PIECE_BYTES + _WINDOW_BYTES:
                    yield _all_but_window(done)
        left -= length
        if len(done) > PIECE_BYTES + _WINDOW_BYTES:
            yield _all_but_window(done)
        if left < 0:
            raise pa.ArrowInvalid("a page is longer than it says")
    yield bytes(done)


def _copy(done: bytearray, tag: int, stored: ByteStream) -> int:
    """Append what a copy element repeats, and return its length."""
    if tag & 3 == 1:
        length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | stored.byte()
    else:
        length, offset = (tag >> 2) + 1, int.from_bytes(stored.read((tag & 3) * 2 - 2), "little")
    if not 0 < offset <= len(done):
        raise pa.ArrowInvalid("a compressed page refers to bytes that are not there")
    start = len(done) - offset
    found = done[start : start + length]
    done += found if len(found) == length else (found * -(-length // offset))[:length]
    return length


def _all_but_window(done: bytearray) -> bytes:
    """Take all bytes but the last ones, to which later copies may refer."""
    piece = bytes(done[:-_WINDOW_BYTES])
    del done[:-_WINDOW_BYTES]
    return piece
