"""Samples of a tar, with all their members as they are."""

import gzip
from pathlib import Path

import pyarrow as pa

from aigid.errors import UsageError
from aigid.filtering.row_mask import RowMask
from aigid.sources import ManifestFile, sample_ranges, tar_stream
from aigid.storage import locate

_COPY_BYTES = 1 << 20
# A tar ends with two empty blocks, and its size is a multiple of 20.
_BLOCK_BYTES, _RECORD_BYTES = 512, 512 * 20


class TarRows:
    """Writes samples of one tar into another; one that had gzip has it again."""

    def __init__(self, path: Path) -> None:
        self._path, self._first = path, ""

    def add(self, files: list[ManifestFile], mask: RowMask) -> None:
        """Write the samples of which a row is written. Samples without images are left out.

        Raises UsageError for a second tar: in one, samples of the same name would become one.
        """
        (file,) = files
        if self._first:
            raise UsageError(
                f"`out`: {file.path} and {self._first} cannot become one tar, where samples of the "
                "same name would be one: give a folder, which gets a tar for each"
            )
        self._first = file.path
        wanted = [(one.start, one.stop) for one in sample_ranges(file) if mask.take(one.rows).any()]
        is_gzip = not locate(file.uri).path.lower().endswith(".tar")
        with self._path.open("wb") as raw, tar_stream(file) as stream:
            # Without a time and a name in it, the same samples give the same bytes.
            target = gzip.GzipFile("", "wb", 6, raw, mtime=0) if is_gzip else raw
            at = written = 0
            for start, stop in wanted:
                _copy(stream, None, start - at)
                _copy(stream, target, stop - start)
                at, written = stop, written + stop - start
            target.write(bytes(2 * _BLOCK_BYTES + -(written + 2 * _BLOCK_BYTES) % _RECORD_BYTES))
            if is_gzip:
                target.close()

    def close(self) -> None:
        """Do nothing: `add` has ended the file."""


def _copy(stream: pa.NativeFile, target: "gzip.GzipFile | object", count: int) -> None:
    """Copy the next bytes of a stream, or leave them out without a target."""
    while count:
        data = bytes(stream.read(min(_COPY_BYTES, count)))
        if not data:
            raise EOFError("the end is missing")
        if target is not None:
            target.write(data)  # type: ignore[attr-defined]
        count -= len(data)
