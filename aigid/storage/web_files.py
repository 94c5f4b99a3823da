"""Files on web servers as a file system of Arrow's that is read in ranges: a manifest by its URL.

The user names the server, so that its address may be a private one, unlike those of images in a manifest.
"""

import io
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import quote

import pyarrow as pa
from pyarrow import fs

from aigid.records import ErrorCode, RowFailure
from aigid.storage.http import WebRange, fetch_range

_READ_ONLY = "a web server is read only: give a folder or an object store"


class WebFiles(fs.FileSystemHandler):  # type: ignore[misc] # pyarrow has no types
    """The files of all web servers that speak `scheme`; a path is HOST/PATH, and `query` goes with each URL."""

    def __init__(self, scheme: str, query: str) -> None:
        """Nothing is asked yet."""
        self._scheme, self._query = scheme, query

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WebFiles) and (self._scheme, self._query) == (
            other._scheme,
            other._query,
        )

    def __hash__(self) -> int:
        return hash((self._scheme, self._query))

    def get_type_name(self) -> str:
        """What Arrow calls it."""
        return self._scheme

    def normalize_path(self, path: str) -> str:
        """As it is."""
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        """Of each path, what the server says: a file, with size and time, or nothing."""
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> NoReturn:
        """Raises OSError: there is no listing."""
        raise OSError("a web server does not list its files: name each")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """The same as `open_input_file`."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """A file that is read in ranges; raises FileNotFoundError where there is none."""
        url = self._url(path)
        return pa.PythonFile(_WebFile(url, _asked(url, 0, 1).size), mode="r")

    def _info(self, path: str) -> fs.FileInfo:
        try:
            answer = _asked(self._url(path), 0, 1)
        except FileNotFoundError:
            return fs.FileInfo(path, fs.FileType.NotFound)
        return fs.FileInfo(path, fs.FileType.File, size=answer.size, mtime=_time(answer.modified))

    def _url(self, path: str) -> str:
        host, _, rest = path.partition("/")
        return f"{self._scheme}://{host}/{quote(rest)}" + (f"?{self._query}" if self._query else "")

    def _read_only(self, *arguments: Any) -> NoReturn:
        raise OSError(_READ_ONLY)

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = (
        _read_only
    )
    move = copy_file = open_output_stream = open_append_stream = _read_only


class _WebFile(io.RawIOBase):
    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._at = url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._at + size, self._size)
        data = _asked(self._url, self._at, stop).data if stop > self._at else b""
        self._at += len(data)
        return data


def _asked(url: str, start: int, stop: int) -> WebRange:
    try:
        return fetch_range(url, start, stop)
    except RowFailure as failure:
        kind = FileNotFoundError if failure.error.code == ErrorCode.MISSING else OSError
        raise kind(failure.error.detail) from failure


def _time(modified: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(modified).astimezone(UTC) if modified else None
    except ValueError:
        return None
