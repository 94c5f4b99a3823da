"""Where files live: one way to list, read and atomically write them, on a local disk or in an object store."""

import fnmatch
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from aigid.errors import UsageError

_GLOB = ("*", "?", "[")


@dataclass(frozen=True)
class Location:
    """A file or folder: the file system it is on, its path there, and the text a user knows it by."""

    filesystem: fs.FileSystem
    path: str
    text: str

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's file system."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def child(self, name: str) -> "Location":
        """The location of `name` in this folder."""
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def at(self, path: str) -> "Location":
        """Another path on the same file system, with the text that a user would give for it."""
        if self.is_local:
            return _local(path)
        parts = urlsplit(self.text)
        query = f"?{parts.query}" if parts.query else ""
        return Location(self.filesystem, path, f"{parts.scheme}://{path}{query}")


def locate(text: str) -> Location:
    """The location that `text`, a path or a URI, names; raises UsageError for a scheme that is not known."""
    if not text:
        raise UsageError("a path is empty: an unset variable?")
    if "://" not in text:
        return _local(text)
    # Arrow drops a fragment, and a query of file://: another file or folder would be opened than the one meant.
    cut = next((sign for sign in ("#?" if text.startswith("file:") else "#") if sign in text), None)
    if cut:
        raise UsageError(f"{text}: in a URI, write %{ord(cut):02X} for a {cut} in a name")
    try:
        filesystem, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UsageError(f"{text}: not a location that can be opened: {error}") from error
    if isinstance(filesystem, fs.LocalFileSystem):
        return _local(path)
    return Location(filesystem, path, text)


def exists(location: Location) -> bool:
    """Whether there is a file or folder."""
    return bool(_info(location).type != fs.FileType.NotFound)


def is_folder(location: Location) -> bool:
    """Whether the location is a folder (in an object store: a prefix with something below it)."""
    return bool(_info(location).type == fs.FileType.Directory)


def list_parquet(location: Location) -> list[Location]:
    """The Parquet files at a file, in a folder and those below it, or matching a glob: sorted by path.

    In a folder, names that begin with a dot or an underscore are left out, as other Parquet readers do; a glob leaves
    out names that begin with a dot, as a shell does.
    """
    if not exists(location) and any(sign in location.path for sign in _GLOB):
        pattern = location.text if location.is_local else location.path
        below = _files_below(location.at(_folder_before_glob(pattern)))
        names = (path for path in below if _matches(path.split("/"), pattern.split("/")))
        return [location.at(path) for path in sorted(names)]
    if is_folder(location):
        names = (path for path in _files_below(location) if path.endswith(".parquet") and not _is_hidden(path, location.path))
        return [location.at(path) for path in sorted(names)]
    return [location]


@dataclass(frozen=True)
class ListedFile:
    """A file as it was listed: where it is, its size, and when it was modified."""

    location: Location
    size_bytes: int
    modified_ns: int | None


def listed_files(location: Location) -> Iterator[ListedFile]:
    """What `list_parquet` gives, with what identifies each; nothing where the location itself is not there."""
    for one in list_parquet(location):
        info = _info(one)
        if info.type == fs.FileType.NotFound and one == location:
            return
        yield ListedFile(one, info.size or 0, info.mtime_ns)


def explain_failure(error: pa.ArrowException | OSError) -> str:
    """What went wrong, in one line."""
    return " ".join(str(error).split())[:300]


def list_names(folder: Location) -> list[str]:
    """The names of the files right in a folder; empty where there is no such folder."""
    selector = fs.FileSelector(folder.path, allow_not_found=True)
    return [info.base_name for info in folder.filesystem.get_file_info(selector) if info.type == fs.FileType.File]


def read_bytes(location: Location) -> bytes:
    """The whole content of a file."""
    with location.filesystem.open_input_stream(location.path) as stream:
        return bytes(stream.read())


def make_folder(location: Location) -> None:
    """Make a folder and those above it; nothing where it exists, or where folders are only a part of names."""
    if location.is_local:
        Path(location.path).mkdir(parents=True, exist_ok=True)


def write_atomic(location: Location, data: bytes | pa.Buffer) -> None:
    """Write a file so that it either exists whole or not at all: rename on a disk, one PUT in an object store."""
    if not location.is_local:
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


def _info(location: Location) -> fs.FileInfo:
    return location.filesystem.get_file_info(location.path)


def _files_below(folder: Location) -> Iterator[str]:
    if folder.is_local:
        yield from _local_files_below(folder.path, ()) if Path(folder.path).is_dir() else ()
        return
    selector = fs.FileSelector(folder.path, recursive=True, allow_not_found=True)
    yield from (info.path for info in folder.filesystem.get_file_info(selector) if info.type == fs.FileType.File)


def _local_files_below(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """The files below a folder, dangling links too: left out as Arrow does, their rows would be lost silently."""
    facts = Path(folder).stat()
    here = (facts.st_dev, facts.st_ino)
    if here in above:
        # A link to a folder above it: what is there is listed already.
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _local_files_below(entry.path, (*above, here))
            elif entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists()):
                yield os.path.normpath(entry.path)


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether a path matches a glob, name by name, as a shell does: only `**` crosses folders, none of them hidden."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        visible = next((index for index, name in enumerate(names) if name.startswith(".")), len(names))
        return any(_matches(names[start:], patterns[1:]) for start in range(visible + 1))
    return bool(names) and _matches_name(names[0], patterns[0]) and _matches(names[1:], patterns[1:])


def _matches_name(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))


def _folder_before_glob(path: str) -> str:
    parts = PurePosixPath(path).parts
    before = next((index for index, part in enumerate(parts) if any(sign in part for sign in _GLOB)), len(parts))
    return str(PurePosixPath(*parts[:before])) if before else "."


def _is_hidden(path: str, folder: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(os.path.relpath(path, folder)).parts)
