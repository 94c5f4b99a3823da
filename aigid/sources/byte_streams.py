"""Streams of bytes, and the decompression of one that is too large for memory."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pyarrow as pa

PIECE_BYTES = 1 << 20
"""The bytes that are read, or decompressed, at a time."""

# Snappy's compressors never look further back, though its format would let them.
_WINDOW_BYTES = 1 << 16
# A tag, and four bytes of a length or an offset.
_MOST_HEAD_BYTES = 5
_TOO_SHORT = "a page ends too early"
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
                    raise pa.ArrowInvalid(_TOO_SHORT)
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
    size = stored.varint()
    done, data, given = bytearray(), b"", 0
    while given + len(done) < size:
        piece = stored.some(PIECE_BYTES) if len(data) <= _MOST_HEAD_BYTES else b""
        data += piece
        # The head of an element near the end may be cut off, unless that was the last piece.
        is_last = not piece and len(data) <= _MOST_HEAD_BYTES
        used, missing = _undo(data, done, len(data) - (0 if is_last else _MOST_HEAD_BYTES))
        if not used and is_last:
            raise pa.ArrowInvalid(_TOO_SHORT)
        data = data[used:]
        if given + len(done) + missing > size:
            raise pa.ArrowInvalid("a compressed page is longer than it says")
        for part in stored.parts(missing):
            done += part
            given += yield from _all_but_window(done)
        given += yield from _all_but_window(done)
    if done:
        yield bytes(done)


def _all_but_window(done: bytearray) -> Generator[bytes, None, int]:
    """Yield all bytes but the last ones, to which later elements may refer; return how many."""
    ready = len(done) - _WINDOW_BYTES
    if ready < PIECE_BYTES:
        return 0
    yield bytes(done[:ready])
    del done[:ready]
    return ready


def _undo(data: bytes, done: bytearray, end: int) -> tuple[int, int]:
    """Append to `done` what the elements that begin before `end` stand for, up to a piece or so.

    Return where the next one begins, and the bytes of a literal that `data` lacks.
    """
    at = 0
    most = len(done) + PIECE_BYTES
    try:
        while at < end and len(done) < most:
            tag = data[at]
            kind = tag & 3
            if kind == 0:
                length = (tag >> 2) + 1
                at += 1
                if length > 60:
                    width = length - 60
                    length = int.from_bytes(data[at : at + width], "little") + 1
                    at += width
                done += data[at : at + length]
                at += length
                if at > len(data):
                    return len(data), at - len(data)
                continue
            if kind == 1:
                length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | data[at + 1]
                at += 2
            elif kind == 2:
                length, offset = (tag >> 2) + 1, data[at + 1] | data[at + 2] << 8
                at += 3
            else:
                length, offset = (tag >> 2) + 1, int.from_bytes(data[at + 1 : at + 5], "little")
                at += 5
            _repeat(done, length, offset)
    except IndexError as error:
        raise pa.ArrowInvalid(_TOO_SHORT) from error
    return at, 0


def _repeat(done: bytearray, length: int, offset: int) -> None:
    """Append `length` bytes again, from `offset` bytes before the end on."""
    start = len(done) - offset
    if not 0 <= start < len(done):
        raise pa.ArrowInvalid("a compressed page refers to bytes that are not there")
    if length <= offset:
        done += done[start : start + length]
    else:
        done += (done[start:] * (length // offset + 1))[:length]
