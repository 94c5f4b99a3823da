"""A file that is read in ranges over the network, as a file object of Python."""

import io
from collections.abc import Callable
from typing import Any


class RangeFile(io.RawIOBase):
    """A read-only file of `size_bytes`. `read_range` returns the bytes from a start up to a stop.

    Each read is one request, except for reads within `head`, the first bytes.
    """

    def __init__(
        self, read_range: Callable[[int, int], bytes], size_bytes: int, head: bytes = b""
    ) -> None:
        self._read_range, self._size, self._position = read_range, size_bytes, 0
        self._head = head

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position, and return it."""
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = bases[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, or all that are left."""
        stop = self._size if size < 0 else min(self._position + size, self._size)
        if stop <= self._position:
            return b""
        if stop <= len(self._head):
            data = self._head[self._position : stop]
        else:
            data = self._read_range(self._position, stop)
        self._position += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
