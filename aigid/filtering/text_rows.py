"""Records of CSV, TSV and JSON lines files, with the bytes that they have there."""

from itertools import compress
from pathlib import Path

from aigid.errors import UsageError
from aigid.filtering.row_mask import RowMask
from aigid.sources import ManifestFile, read_blocks, split_records


class TextRows:
    """Writes records of text tables, which have the same first line, into one."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._header: bytes | None = None
        self._first, self._end = "", b"\n"

    def add(self, files: list[ManifestFile], mask: RowMask) -> None:
        """Write records of a file. Raises UsageError where another line names its columns."""
        (file,) = files
        blocks = read_blocks(file)
        header = next(blocks, b"")
        if self._header is None:
            self._header, self._first = header, file.path
            self._write(header)
        elif header.strip() != self._header.strip():
            raise UsageError(
                f"`out`: the columns of {file.path} are not those of {self._first}: give a folder, "
                "which gets a file for each"
            )
        for data, rows in zip(blocks, file.row_groups, strict=True):
            wanted = mask.take(rows)
            if wanted.all():
                self._write(data)
            elif wanted.any():
                self._write(b"".join(compress(split_records(file, data), wanted.tolist())))

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        """Write records; what was written before may lack the end of its last line."""
        if data:
            if not self._end.endswith(b"\n"):
                self._file.write(b"\n")
            self._file.write(data)
            self._end = data[-1:]
