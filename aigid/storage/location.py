"""Where files live: one way to find, read and atomically write them, on a local disk, in an object store, on the web."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from aigid.errors import StorageError, UsageError
from aigid.storage.clients import open_store
from aigid.storage.failures import explain_store_failure, is_denied, listing_failure
from aigid.storage.uri import URI_SCHEMES, StoreUri, parse_store_uri


@dataclass(frozen=True)
class Location:
    """A file or folder: the file system it is on, its path there, and the text a user knows it by.

    `store` has its URI taken apart, where it is in an object store or on the web.
    """

    filesystem: fs.FileSystem
    path: str
    text: str
    store: StoreUri | None = None

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's file system."""
        return self.store is None

    def child(self, name: str) -> "Location":
        """The location of `name` in this folder."""
        return self.at(f"{self.path.rstrip('/')}/{name}")

    @property
    def is_web(self) -> bool:
        """Whether it is on a web server, which has files but no folders."""
        return self.store is not None and self.store.kind == "web"

    @property
    def parent(self) -> "Location":
        """The folder that it is in."""
        return self.at(str(PurePosixPath(self.path).parent))

    def at(self, path: str) -> "Location":
        """Another path on the same file system, with the text that a user would give for it."""
        if self.store is None:
            return _local(path)
        uri = self.store.at(path)
        return replace(self, path=uri.path, text=uri.text, store=uri)

    def is_below(self, folder: "Location") -> bool:
        """Whether it is this folder or in it, wherever links lead."""
        if self.is_local and folder.is_local:
            return Path(self.path).resolve().is_relative_to(Path(folder.path).resolve())
        same_store = self.filesystem == folder.filesystem
        return same_store and f"{self.path.rstrip('/')}/".startswith(f"{folder.path.rstrip('/')}/")


def locate(text: str) -> Location:
    """The location that `text`, a path or a URI, names.

    Raises UsageError for a scheme that is not known, and StorageError where an object store cannot be reached.
    """
    if not text:
        raise UsageError("a path is empty: an unset variable?")
    if "://" not in text:
        return _local(text)
    scheme = text.split("://")[0].lower()
    if scheme in URI_SCHEMES:
        return _in_store(text)
    if scheme != "file":
        known = ", ".join(f"{known}://" for known in ("file", *URI_SCHEMES))
        raise UsageError(
            f"{text}: not a location that can be opened: give a path or one of {known}"
        )
    # Arrow drops a fragment and a query: another file or folder would be opened than the one meant.
    cut = next((sign for sign in "#?" if sign in text), None)
    if cut:
        raise UsageError(f"{text}: in a URI, write %{ord(cut):02X} for a {cut} in a name")
    try:
        _, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UsageError(f"{text}: not a location that can be opened: {error}") from error
    return _local(path)


@contextmanager
def store_failures(location: Location) -> Iterator[None]:
    """Have what an object store refuses or fails at end as a StorageError that says why; not that nothing is there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        if location.is_local:
            raise
        raise StorageError(f"{location.text}: {explain_failure(error, location)}") from error


def info_of(location: Location) -> fs.FileInfo:
    """What the file system says of a location; raises StorageError where an object store does not say."""
    with store_failures(location):
        return location.filesystem.get_file_info(location.path)


def exists(location: Location) -> bool:
    """Whether there is a file or folder."""
    return bool(info_of(location).type != fs.FileType.NotFound)


def is_folder(location: Location) -> bool:
    """Whether the location is a folder (in an object store: a prefix with something below it)."""
    return bool(info_of(location).type == fs.FileType.Directory)


def explain_failure(error: Exception, location: Location) -> str:
    """What went wrong there, in one line; of an object store, what its words mean too."""
    if location.store is not None:
        return explain_store_failure(error, location.store, location.filesystem)
    return " ".join(str(error).split())[:300]


def explain_absence(location: Location) -> str:
    """Why nothing is found there, in one line."""
    if location.store is not None:
        failure = listing_failure(location.store, location.filesystem)
        if failure is not None:
            return explain_failure(failure, location)
    return "no such file or folder"


def is_forbidden(error: Exception, location: Location) -> bool:
    """Whether an object store lets us read others, but not this one."""
    return location.store is not None and is_denied(error, location.store, location.filesystem)


def list_names(folder: Location) -> list[str]:
    """The names of the files right in a folder; empty where there is no such folder."""
    selector = fs.FileSelector(folder.path, allow_not_found=True)
    with store_failures(folder):
        return [
            info.base_name
            for info in folder.filesystem.get_file_info(selector)
            if info.type == fs.FileType.File
        ]


def read_bytes(location: Location) -> bytes:
    """The whole content of a file."""
    with store_failures(location), location.filesystem.open_input_stream(location.path) as stream:
        return bytes(stream.read())


def make_folder(location: Location) -> None:
    """Make a folder and those above it; nothing where it exists, or where folders are only a part of names."""
    if location.is_local:
        Path(location.path).mkdir(parents=True, exist_ok=True)


def write_atomic(location: Location, data: bytes | pa.Buffer) -> None:
    """Write a file so that it either exists whole or not at all: rename on a disk, one PUT in an object store."""
    if not location.is_local:
        # What fails here is never completed: the object is there whole, or not at all, and so is one that it replaces.
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


def remove_leftovers(folder: Location) -> None:
    """Remove the temporary files of writes that were killed; call it only while nothing else writes there."""
    if folder.is_local:
        for path in Path(folder.path).glob(".*.tmp"):
            if not path.is_dir():
                path.unlink(missing_ok=True)


def _local(text: str) -> Location:
    path = os.path.normpath(text)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{path!r}: a name that is not UTF-8; rename it") from error
    # Arrow would take run:1.parquet for a URI.
    return Location(fs.LocalFileSystem(), f"./{path}" if ":" in path.split("/")[0] else path, path)


def _in_store(text: str) -> Location:
    uri = parse_store_uri(text)
    try:
        filesystem = open_store(uri)
    except (pa.ArrowException, OSError, TypeError) as error:
        raise StorageError(f"{text}: {explain_store_failure(error, uri, None)}") from error
    return Location(filesystem, uri.path, uri.text, uri)
