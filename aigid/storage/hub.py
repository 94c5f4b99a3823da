"""Data sets of the Hugging Face Hub as a read-only Arrow file system.

The client is huggingface_hub's: its connections, retries, tokens and offline mode. Its HfFileSystem
would list a whole folder to open one file, keep listings for as long as the process lives, and send
them along with each pickle.
"""

import io
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NoReturn
from urllib.parse import quote

import pyarrow as pa
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined] # exported lazily
    build_hf_headers,
    hf_raise_for_status,
    http_backoff,
)
from pyarrow import fs

from aigid.records import without_secrets
from aigid.storage.endpoints import hub_endpoint
from aigid.storage.range_file import RangeFile
from aigid.storage.uri import CREDENTIALS, split_revision
from aigid.version import __version__

_READ_ONLY = "the hub is read only: give a folder or an object store"
_TIMEOUT_S = 30.0
_SHARED_CLIENTS = 3
# Too many requests, and the hub's own failures: another attempt may succeed.
_TEMPORARY_STATUSES = (429, 500, 502, 503, 504)
_STREAM_BYTES = 8 << 20
# Read with the size of a file: captions and small images need no other request.
_HEAD_BYTES = 64 << 10
_TOKEN = CREDENTIALS["hub"]


class RevisionError(OSError):
    """The data set has no such branch, tag or commit."""


class HubFiles(fs.FileSystemHandler):  # type: ignore[misc] # pyarrow has no types
    """The files of one data set at one revision.

    `bucket` is datasets/OWNER/NAME@REVISION. A path is BUCKET/PATH, as in a hf:// URI.
    """

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._repository, self._revision = split_revision(bucket)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HubFiles) and self._bucket == other._bucket

    def __hash__(self) -> int:
        return hash(self._bucket)

    def get_type_name(self) -> str:
        """Return the scheme."""
        return "hf"

    def normalize_path(self, path: str) -> str:
        """Return the path unchanged."""
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        """Return for each path a file with its size, a folder, or NotFound. Makes one request.

        The hub tells no modification times, but for a request of its own for every 50 files.
        """
        keys = [self._key(path) for path in paths]
        found: dict[str, fs.FileInfo] = {}
        if "" in keys:
            next(self._tree("", recursive=False), None)
            found[""] = fs.FileInfo(self._bucket, fs.FileType.Directory)
        if any(keys):
            body = {"paths": [key for key in keys if key], "expand": "false"}
            url = self._api("paths-info")
            found |= {
                entry["path"]: self._info(entry)
                for entry in _entries(_request("POST", url, data=body))
            }
        missing = fs.FileType.NotFound
        return [
            found.get(key) or fs.FileInfo(path, missing)
            for key, path in zip(keys, paths, strict=True)
        ]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        """Return the files and folders in a folder. Makes a request for each thousand."""
        key = self._key(selector.base_dir)
        try:
            entries = list(self._tree(key, recursive=selector.recursive))
        except FileNotFoundError:
            if selector.allow_not_found:
                return []
            raise
        return [self._info(entry) for entry in entries if entry["path"] != key]

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file that is read from its start. Raises FileNotFoundError, or OSError."""
        return pa.PythonFile(io.BufferedReader(self._open(path), _STREAM_BYTES), mode="r")

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file that is read in ranges. Raises FileNotFoundError, or OSError."""
        return pa.PythonFile(self._open(path), mode="r")

    def _open(self, path: str) -> RangeFile:
        """Open a file as it is in the revision's commit of now, whatever is pushed later."""
        key = self._key(path)
        try:
            response = _request("GET", self._file(key, self._revision), byte_range=(0, _HEAD_BYTES))
        except RevisionError as error:
            raise FileNotFoundError(str(error)) from error
        headers = [one.headers for one in (*response.history, response)]
        commits = (one["X-Repo-Commit"] for one in headers if "X-Repo-Commit" in one)
        url = self._file(key, next(commits, self._revision))
        return RangeFile(partial(_read_range, url), _size_of(response), bytes(response.content))

    def _tree(self, key: str, *, recursive: bool) -> Iterator[dict[str, Any]]:
        """Yield what is in a folder. Raises FileNotFoundError where there is none."""
        url: str | None = self._api("tree") + (f"/{quote(key, safe='')}" if key else "")
        params: dict[str, str] | None = {"recursive": str(recursive).lower(), "expand": "false"}
        while url is not None:
            response = _request("GET", url, params=params)
            yield from _entries(response)
            url, params = response.links.get("next", {}).get("url"), None

    def _info(self, entry: dict[str, Any]) -> fs.FileInfo:
        path = f"{self._bucket}/{entry['path']}"
        if entry["type"] == "directory":
            return fs.FileInfo(path, fs.FileType.Directory)
        return fs.FileInfo(path, fs.FileType.File, size=entry["size"])

    def _key(self, path: str) -> str:
        return path.removeprefix(self._bucket).strip("/")

    def _api(self, endpoint: str) -> str:
        revision = quote(self._revision, safe="")
        return f"{hub_endpoint()}/api/datasets/{self._repository}/{endpoint}/{revision}"

    def _file(self, key: str, revision: str) -> str:
        place = f"{hub_endpoint()}/datasets/{self._repository}/resolve"
        return f"{place}/{quote(revision, safe='')}/{quote(key)}"

    def _refuse_to_write(self, *arguments: Any) -> NoReturn:
        raise OSError(_READ_ONLY)

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse_to_write
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse_to_write


def _read_range(url: str, start: int, stop: int) -> bytes:
    response = _request("GET", url, byte_range=(start, stop))
    # A server may send the whole of a small file.
    data = response.content if response.status_code == 206 else response.content[start:stop]
    if len(data) != stop - start:
        raise OSError(f"the hub sends {len(data)} bytes of {stop - start}")
    return bytes(data)


def _size_of(response: Any) -> int:
    """Return the size of a file in bytes, from the answer to a request for its start."""
    if response.status_code == 200:
        return len(response.content)
    size = response.headers.get("Content-Range", "").rpartition("/")[2]
    if not size.isdigit():
        raise OSError("the hub does not tell the size of the file")
    return int(size)


def _entries(response: Any) -> list[dict[str, Any]]:
    try:
        entries = response.json()
        if isinstance(entries, list) and all({"path", "type"} <= one.keys() for one in entries):
            return entries
    except (ValueError, TypeError, AttributeError):
        pass
    raise OSError("the server's answer is not a hub's: check HF_ENDPOINT")


def _request(
    method: Literal["GET", "POST"],
    url: str,
    *,
    byte_range: tuple[int, int] | None = None,
    **options: Any,
) -> Any:
    """Return the response of the hub, or of the server of its files that it redirects to.

    That server gets no token: the client drops it. Raises FileNotFoundError, PermissionError, or
    OSError, with a text that has neither a token nor a signed URL.
    """
    headers = build_hf_headers(library_name="aigid", library_version=__version__)
    if byte_range is not None:
        start, stop = byte_range
        headers |= {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    try:
        response = _send(method, url, headers=headers, **options)
        # An empty file has no first byte.
        if byte_range is None or response.status_code != 416:
            hf_raise_for_status(response)
    except Exception as error:  # noqa: BLE001 - httpx's or httpx2's, by huggingface_hub's version
        # Not chained: the texts of these errors have signed URLs.
        raise explain_hub_error(error) from None
    return response


def _send(method: Literal["GET", "POST"], url: str, **options: Any) -> Any:
    """Do the same as `http_backoff`, although other threads may close the client that all share.

    They do where a host cannot be connected to. The client then refuses requests.
    """
    for _ in range(_SHARED_CLIENTS):
        with suppress(RuntimeError):
            return http_backoff(
                method,
                url,
                timeout=_TIMEOUT_S,
                retry_on_status_codes=_TEMPORARY_STATUSES,
                **options,
            )
    raise OSError("other requests to the hub fail")


def explain_hub_error(error: Exception) -> OSError:
    """Return the error that Arrow expects of a file system, with a text for people, in one line.

    It is FileNotFoundError, PermissionError, or another OSError.
    """
    if isinstance(error, EntryNotFoundError):
        return FileNotFoundError("no such file or folder in the data set")
    if isinstance(error, RevisionNotFoundError):
        return RevisionError("the data set has no such revision: check what follows the @")
    if isinstance(error, GatedRepoError):
        return PermissionError(
            "the data set is gated: accept its conditions on its page of the hub, and give the "
            f"token of that account ({_TOKEN})"
        )
    if isinstance(error, RepositoryNotFoundError):
        return PermissionError(
            f"the hub has no such data set, or you may not read it: check the name, and that "
            f"there is a token ({_TOKEN})"
        )
    if isinstance(error, DisabledRepoError):
        return PermissionError("the hub has disabled the data set")
    if isinstance(error, OfflineModeIsEnabled):
        return OSError("HF_HUB_OFFLINE is set: unset it to read from the hub")
    if isinstance(error, HfHubHTTPError):
        return _error_of_status(error.response.status_code)
    where = without_secrets(hub_endpoint())
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return OSError(f"{where} cannot be reached: {reason}")


def _error_of_status(status: int) -> OSError:
    if status == 401:
        return OSError(f"the hub does not accept the credentials: renew the token ({_TOKEN})")
    if status == 403:
        return PermissionError(f"access is denied: check what the token allows ({_TOKEN})")
    if status == 404:
        return FileNotFoundError("no such file or folder in the data set")
    if status == 429:
        return OSError(
            "the hub limits requests: use fewer threads or workers, give a token "
            f"({_TOKEN}), or continue later"
        )
    return OSError(f"the hub answers {status}: continue later")
