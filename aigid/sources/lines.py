"""The lines of a text file as a stream, with what they add up to."""

import hashlib
from collections.abc import Iterator

import pyarrow as pa

from aigid.errors import ManifestError

_READ_BYTES = 1 << 20
# The bytes of a large image in base64. What is longer has a quote that is not closed, or no lines.
MAX_LINE_BYTES = 96 << 20


class Lines:
    r"""The lines of a stream, each with its \n, counted and hashed in blocks."""

    def __init__(self, stream: pa.NativeFile, text: str) -> None:
        """Read from a stream of the file that `text` names, for messages."""
        self.text = text
        self.number = 0
        """The number of the last line that was taken, from 1."""
        self.records = 0
        """The records in this block, which the reader counts."""
        self._lines = _lines(stream, text)
        self._hash, self.block_bytes = hashlib.sha256(), 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = next(self._lines)
        self.number += 1
        self.block_bytes += len(line)
        self._hash.update(line)
        return line

    def end_block(self) -> tuple[int, bytes]:
        """Return the number of bytes in this block and their SHA-256, and begin the next one."""
        ended = self.block_bytes, self._hash.digest()
        self._hash, self.block_bytes, self.records = hashlib.sha256(), 0, 0
        return ended

    def refuse(self, problem: str) -> ManifestError:
        """Return the error for a problem with the last line."""
        return ManifestError(f"{self.text}, line {self.number}: {problem}")


def _lines(stream: pa.NativeFile, text: str) -> Iterator[bytes]:
    rest: list[bytes] = []
    waiting = 0
    while data := bytes(stream.read(_READ_BYTES)):
        *whole, last = data.split(b"\n")
        if whole:
            yield b"".join([*rest, whole[0], b"\n"])
            yield from (line + b"\n" for line in whole[1:])
            rest, waiting = [], 0
        rest.append(last)
        waiting += len(last)
        if waiting > MAX_LINE_BYTES:
            raise ManifestError(
                f"{text}: a line has more than {MAX_LINE_BYTES >> 20} MiB: is it a text file?"
            )
    if tail := b"".join(rest):
        yield tail
