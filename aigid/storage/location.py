"""Files on disks, in object stores, on the web and the hub: find, read, atomically write them."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from aigid.errors import StorageError, UsageError
from aigid.records import ErrorCode
from aigid.storage.clients import open_store
from aigid.storage.failures import (
    explain_store_failure,
    listing_failure,
    object_failure,
    store_failure,
)
from aigid.storage.uri import (
    PARQUET_REVISION,
    URI_SCHEMES,
    MalformedUriError,
    StoreUri,
    parse_store_uri,
    split_revision,
)


@dataclass(frozen=True)
class Location:
    """A file or folder, which need not exist.

    `filesystem` and `path` are Arrow's. `text` is the path or URI as a user would write it, for
    messages and results: the query of a URL is hidden. `store` has the parts of the URI, and is
    None on a local disk.
    """

    filesystem: fs.FileSystem
    path: str
    text: str
    store: StoreUri | None = None

    @property
    def uri(self) -> str:
        """The path or URI with which `locate` finds this location again; it may hold secrets."""
        return self.text if self.store is None else self.store.text

    @property
    def hidden_query(self) -> str | None:
        """The query that `text` hides."""
        return None if self.store is None or self.uri == self.text else self.store.query

    @property
    def is_local(self) -> bool:
        """Whether it is on a local disk."""
        return self.store is None

    @property
    def is_web(self) -> bool:
        """Whether it is on a web server. Web servers have files but no folders."""
        return self.store is not None and self.store.kind == "web"

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written there: it is on a web server or on the hub."""
        return self.store is not None and self.store.kind in ("web", "hub")

    def child(self, name: str) -> "Location":
        """Return the location of `name` in this folder."""
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def local_child(self, name: str) -> "Location":
        """Return the location of a listed name in this local folder.

        The name need not be UTF-8: `check_name` tells whether Arrow can open it.
        """
        path = os.path.normpath(f"{self.text.rstrip('/')}/{name}")
        return replace(self, path=_arrow_path(path), text=path)

    @property
    def parent(self) -> "Location":
        """The folder that it is in."""
        if self.store is not None:
            return self.at(self.path.rstrip("/").rpartition("/")[0])
        return self.at(str(PurePosixPath(self.path).parent))

    def at(self, path: str) -> "Location":
        """Return the location of another of Arrow's paths on the same file system."""
        if self.store is None:
            return _local(path)
        uri = self.store.at(path)
        return replace(self, path=uri.path, text=uri.shown, store=uri)

    def is_below(self, folder: "Location") -> bool:
        """Return whether it is `folder` or below it, with the links of local paths resolved."""
        if self.is_local and folder.is_local:
            return Path(self.path).resolve().is_relative_to(Path(folder.path).resolve())
        same_store = self.filesystem == folder.filesystem
        return same_store and f"{self.path.rstrip('/')}/".startswith(f"{folder.path.rstrip('/')}/")


def locate(text: str) -> Location:
    """Return the location that a path or URI names.

    Raises UsageError for an empty or malformed text, an unknown scheme, and a name that is not
    UTF-8. Raises StorageError where the client of an object store cannot be made.
    """
    if not text:
        raise UsageError("a path is empty: is a variable unset?")
    if "://" not in text:
        return _local(text)
    scheme = text.split("://")[0].lower()
    if scheme in URI_SCHEMES:
        return _in_store(text)
    if scheme != "file":
        known = ", ".join(f"{known}://" for known in ("file", *URI_SCHEMES))
        raise MalformedUriError(
            text, f"not a location that can be opened: give a path or one of {known}"
        )
    # Arrow drops a query and a fragment, and would open another file or folder.
    special = next((character for character in "#?" if character in text), None)
    if special:
        raise UsageError(f"{text}: write a {special} in a name as %{ord(special):02X} in a URI")
    try:
        _, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UsageError(f"{text}: not a location that can be opened: {error}") from error
    return _local(path)


def without_query(text: str) -> str:
    """Return a path or URI as it was given, but with the query of a URL hidden.

    Raises as `locate` does.
    """
    location = locate(text)
    return location.text if location.is_web else text


@contextmanager
def store_failures(location: Location) -> Iterator[None]:
    """Turn the errors of an object store into a StorageError that explains them.

    FileNotFoundError, and every error of a local disk, passes unchanged.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        if location.is_local:
            raise
        raise StorageError(f"{location.text}: {explain_failure(error, location)}") from error


def info_of(location: Location) -> fs.FileInfo:
    """Return the file system's information on a location.

    Raises StorageError where an object store fails, and OSError where a disk does.
    """
    with store_failures(location):
        return location.filesystem.get_file_info(location.path)


def exists(location: Location) -> bool:
    """Return whether a file or folder exists there. Raises as `info_of` does."""
    return bool(info_of(location).type != fs.FileType.NotFound)


def is_folder(location: Location) -> bool:
    """Return whether a location is a folder; in an object store, a prefix of keys.

    Raises as `info_of` does.
    """
    return bool(info_of(location).type == fs.FileType.Directory)


def explain_failure(error: Exception, location: Location) -> str:
    """Return in one line what went wrong at a location.

    For an object store it explains the error, and says where credentials are looked for.
    """
    if location.store is not None:
        return explain_store_failure(error, location.store, location.filesystem)
    return " ".join(str(error).split())[:300]


def explain_absence(location: Location) -> str:
    """Return in one line why nothing is found at a location."""
    if location.store is not None:
        failure = listing_failure(location.store, location.filesystem)
        if failure is not None:
            return explain_failure(failure, location)
    return "no such file or folder"


def failure_of_store(location: Location) -> Exception | None:
    """Ask the store of an object for a listing, and return the error where the store fails."""
    return None if location.store is None else store_failure(location.store, location.filesystem)


def is_temporary(error: Exception, location: Location) -> bool:
    """Return whether it is worth it to ask an object store again after an error."""
    if location.store is None or location.is_read_only or not isinstance(error, OSError):
        return False
    return object_failure(error, location.store).code is ErrorCode.TIMEOUT


def absence_hint(location: Location) -> str:
    """Return what to add to an error that there is no manifest in a data set of the hub, or ""."""
    if location.store is None or location.store.kind != "hub":
        return ""
    repository, revision = split_revision(location.store.bucket)
    if revision == PARQUET_REVISION:
        return ""
    copy = f"hf://datasets/{repository}@{PARQUET_REVISION}"
    return f"; the hub's own copy as Parquet, where it has made one, is {copy}"


def list_names(folder: Location) -> list[str]:
    """Return the names of the files directly in a folder, unsorted; none if it does not exist.

    Raises StorageError where an object store fails.
    """
    return list(list_sizes(folder))


def list_sizes(folder: Location) -> dict[str, int]:
    """Return the names of the files directly in a folder, with their sizes in bytes.

    Raises StorageError where an object store fails.
    """
    return {info.base_name: info.size for info in _infos(folder) if info.type == fs.FileType.File}


def list_others(folder: Location) -> list[str]:
    """Return the names of what is directly in a folder and no file: folders, links to nothing.

    Raises StorageError where an object store fails.
    """
    return [info.base_name for info in _infos(folder) if info.type != fs.FileType.File]


def _infos(folder: Location) -> list[fs.FileInfo]:
    selector = fs.FileSelector(folder.path, allow_not_found=True)
    with store_failures(folder):
        return list(folder.filesystem.get_file_info(selector))


def read_bytes(location: Location) -> bytes:
    """Return the whole content of a file.

    Raises FileNotFoundError, OSError where a disk fails, and StorageError where an object store
    fails.
    """
    with store_failures(location), location.filesystem.open_input_stream(location.path) as stream:
        return bytes(stream.read())


def make_folder(location: Location) -> None:
    """Make a folder and its parents, if missing. In an object store there is nothing to make."""
    if location.is_local:
        Path(location.path).mkdir(parents=True, exist_ok=True)


def write_atomic(location: Location, data: bytes | pa.Buffer) -> None:
    """Write a file so that it exists whole or not at all, and replaces an old one only when whole.

    On a disk the data goes to a temporary file that is then renamed. In an object store it is one
    upload. Raises OSError.
    """
    if not location.is_local:
        # An upload that fails is never completed, so that an older object stays as it is.
        with location.filesystem.open_output_stream(location.path) as stream:
            stream.write(data)
        return
    target = Path(location.path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_file(location: Location) -> None:
    """Remove a file, if it is there. Raises OSError."""
    try:
        location.filesystem.delete_file(location.path)
    except FileNotFoundError:
        return


def remove_leftovers(folder: Location) -> None:
    """Remove the temporary files that killed writes left directly in a folder.

    Call it only while nothing else writes there.
    """
    if folder.is_local:
        for path in Path(folder.path).glob(".*.tmp"):
            if not path.is_dir():
                path.unlink(missing_ok=True)


def check_name(location: Location) -> None:
    """Raise UsageError where a name is not UTF-8, so that Arrow cannot open it."""
    try:
        location.text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{location.text!r}: the name is not UTF-8: rename it") from error


def _local(text: str) -> Location:
    path = os.path.normpath(text)
    location = Location(fs.LocalFileSystem(), _arrow_path(path), path)
    check_name(location)
    return location


def _arrow_path(path: str) -> str:
    # Arrow would read run:1.parquet as a URI, and ~run as the home folder of a user named run.
    return f"./{path}" if path.startswith("~") or ":" in path.split("/")[0] else path


def _in_store(text: str) -> Location:
    uri = parse_store_uri(text)
    try:
        filesystem = open_store(uri)
    except (pa.ArrowException, OSError, TypeError) as error:
        raise StorageError(f"{uri.shown}: {explain_store_failure(error, uri, None)}") from error
    return Location(filesystem, uri.path, uri.shown, uri)
