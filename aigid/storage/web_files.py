"""Files on web servers as a read-only Arrow file system, so that a manifest can be given by URL.

Files are read in ranges. The user names the server, so its address may be private. Images that a
manifest names are fetched by `download`, even those at paths relative to the manifest.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import pyarrow as pa
from pyarrow import fs

from aigid.storage.http import FileRange, download_range
from aigid.storage.http_errors import HttpError, NotFoundError, UnknownHostError
from aigid.storage.range_file import RangeFile

_READ_ONLY = "a web server is read only: give a folder or an object store"


class WebFiles(fs.FileSystemHandler):  # type: ignore[misc] # pyarrow has no types
    """The files of all web servers with the scheme `scheme`.

    A path is HOST/PATH, as in a URL. `query` is added to the URL of each file.
    """

    def __init__(self, scheme: str, query: str) -> None:
        self._scheme, self._query = scheme, query

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WebFiles) and (self._scheme, self._query) == (
            other._scheme,
            other._query,
        )

    def __hash__(self) -> int:
        return hash((self._scheme, self._query))

    def get_type_name(self) -> str:
        """Return the scheme."""
        return self._scheme

    def normalize_path(self, path: str) -> str:
        """Return the path unchanged."""
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        """Return for each path a file with size and time, or NotFound. Makes one request each."""
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> NoReturn:
        """Raise OSError: the web has no listings."""
        raise OSError("a web server does not list its files: name each file")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Do the same as `open_input_file`."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file that is read in ranges. Raises FileNotFoundError, or OSError."""
        url = self._url(path)
        size = _read_range(url, 0, 1).size
        file = RangeFile(lambda start, stop: _read_range(url, start, stop).data, size)
        return pa.PythonFile(file, mode="r")

    def _info(self, path: str) -> fs.FileInfo:
        try:
            start = _read_range(self._url(path), 0, 1)
        except FileNotFoundError:
            return fs.FileInfo(path, fs.FileType.NotFound)
        return fs.FileInfo(path, fs.FileType.File, size=start.size, mtime=_time(start.modified))

    def _url(self, path: str) -> str:
        return f"{self._scheme}://{path}" + (f"?{self._query}" if self._query else "")

    def _refuse_to_write(self, *arguments: Any) -> NoReturn:
        raise OSError(_READ_ONLY)

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse_to_write
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse_to_write


def _read_range(url: str, start: int, stop: int) -> FileRange:
    """Do the same as `download_range`, with the errors that Arrow expects of a file system."""
    try:
        return download_range(url, start, stop)
    except (NotFoundError, UnknownHostError) as error:
        raise FileNotFoundError(str(error)) from error
    except HttpError as error:
        raise OSError(str(error)) from error


def _time(modified: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(modified).astimezone(UTC) if modified else None
    except ValueError:
        return None
