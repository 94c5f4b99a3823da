"""The files at a path, in a folder, or matching a glob, as a stream sorted by path."""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from aigid.bounded_map import bounded_map
from aigid.storage.location import Location, info_of, store_failures
from aigid.storage.name_list import NameList
from aigid.storage.tables import refuse_table, refuse_table_around

_GLOB_CHARACTERS = ("*", "?", "[")
# Each waits for a response of the store, which lists up to a thousand names.
_LISTING_THREADS = 16


@dataclass(frozen=True)
class ListedFile:
    """A file of a listing: its location, its size, and its modification time (None if unknown).

    `has_links` tells that the file may be listed by another name as well: it was found by a link,
    or has several names on its disk.
    """

    location: Location
    size_bytes: int
    modified_ns: int | None
    has_links: bool = False


@dataclass(frozen=True)
class _Folder:
    location: Location
    is_linked: bool = False


_Entry = ListedFile | _Folder


@dataclass(frozen=True)
class Listing:
    """The files that a path names, and the folder in which it names them.

    `root` is the folder itself, the fixed part of a glob, or the folder of a file. `patterns` are
    those of a glob, for each name below the root.
    """

    root: Location
    files: Iterator[ListedFile]
    is_one_file: bool = False
    patterns: tuple[str, ...] = ()

    @property
    def is_glob(self) -> bool:
        """Whether the path is a glob."""
        return bool(self.patterns)

    def lists(self, name: str) -> bool:
        """Return whether a file that has this name below the root is listed."""
        if self.patterns:
            return _matches(name.split("/"), self.patterns)
        return not (name.startswith(".") or "/." in name)


def list_files(location: Location, checked: set[str] | None = None) -> Listing:
    """Return the files that a location names, sorted by path; none where it does not exist.

    A file is listed whatever its name is. A folder lists the files in it and below it, without
    names that begin with a dot. A glob matches as in a shell: names that begin with a dot must be
    asked for. Memory holds the names of a few folders at a time. `checked` has the folders around
    other locations that were looked into. Raises StorageError where an object store fails, and
    ManifestError for a table whose files are more than its rows; both also while the files are
    taken.
    """
    info = info_of(location)
    folder = location
    if info.type == fs.FileType.NotFound and has_glob(location):
        folder, _ = _split_glob(location)
    refuse_table_around(
        folder,
        is_folder=info.type != fs.FileType.File,
        checked=set() if checked is None else checked,
    )
    if info.type == fs.FileType.Directory:
        found = _below(_Folder(location))
        visible = (file for file in found if not _is_hidden(file.location, location))
        return Listing(location, visible)
    if info.type != fs.FileType.NotFound:
        file = ListedFile(location, info.size or 0, info.mtime_ns)
        return Listing(location.parent, iter([file]), is_one_file=True)
    if has_glob(location):
        folder, patterns = _split_glob(location)
        return Listing(folder, _matching(_Folder(folder), patterns), patterns=tuple(patterns))
    return Listing(location.parent, iter(()))


def has_glob(location: Location) -> bool:
    """Return whether a location's path has characters of a glob."""
    return _is_glob(location.path)


def fixed_folder(location: Location) -> Location:
    """Return the folder of a glob: its path up to the first name with a glob character."""
    return _split_glob(location)[0]


def _split_glob(location: Location) -> tuple[Location, list[str]]:
    text = location.text if location.is_local else location.path
    names = text.split("/")
    globs = (index for index, name in enumerate(names) if _is_glob(name))
    first = next(globs, len(names))
    folder = "/".join(names[:first])
    return location.at(folder or ("/" if text.startswith("/") else ".")), names[first:]


def _is_glob(text: str) -> bool:
    return any(character in text for character in _GLOB_CHARACTERS)


def _matching(folder: _Folder, patterns: Sequence[str]) -> Iterator[ListedFile]:
    """Yield the files below a folder that match a glob, one pattern for each name.

    Only the pattern `**` matches more than one folder.
    """
    if patterns[0] == "**":
        yield from (
            file
            for file in _below(folder)
            if _matches(_names(file.location, folder.location), patterns)
        )
        return
    for entry in _entries(folder):
        if not _matches_name(entry.location.path.rsplit("/", 1)[-1], patterns[0]):
            continue
        if isinstance(entry, _Folder) and len(patterns) > 1:
            yield from _matching(entry, patterns[1:])
        elif isinstance(entry, ListedFile) and len(patterns) == 1:
            yield entry


def _below(folder: _Folder) -> Iterator[ListedFile]:
    if folder.location.is_local:
        yield from _local_below(folder, ())
        return
    for files in bounded_map(_all_in_store, _entries(folder), _LISTING_THREADS):
        yield from files


def _all_in_store(entry: _Entry) -> list[ListedFile]:
    """Return all files below a folder of a store, or the file itself.

    A store lists the keys below a prefix a thousand at a time, whatever folders are in them.
    """
    if isinstance(entry, ListedFile):
        return [entry]
    entries = _store_entries(entry.location, recursive=True)
    return [found for found in entries if isinstance(found, ListedFile)]


def _local_below(folder: _Folder, above: tuple[tuple[int, int], ...]) -> Iterator[ListedFile]:
    facts = Path(folder.location.path).stat()
    here = (facts.st_dev, facts.st_ino)
    if here in above:
        # A link to a folder above: its files are listed already.
        return
    for entry in _entries(folder):
        if isinstance(entry, _Folder):
            yield from _local_below(entry, (*above, here))
        else:
            yield entry


def _entries(folder: _Folder) -> Iterator[_Entry]:
    """Yield the files and folders directly in a folder, sorted by path; none if it is missing."""
    if not folder.location.is_local:
        yield from _store_entries(folder.location, recursive=False)
    elif Path(folder.location.path).is_dir():
        yield from _local_entries(folder.location, folder.is_linked)


def _store_entries(folder: Location, *, recursive: bool) -> Iterator[_Entry]:
    selector = fs.FileSelector(folder.path, recursive=recursive, allow_not_found=True)
    with store_failures(folder):
        found = folder.filesystem.get_file_info(selector)
    names = [info.path[len(folder.path) :].strip("/") + _slash(info) for info in found]
    refuse_table(folder, names, look_into=not recursive)
    found.sort(key=lambda info: info.path + _slash(info))
    for info in found:
        if info.type == fs.FileType.File:
            yield ListedFile(folder.at(info.path), info.size, info.mtime_ns)
        elif info.type == fs.FileType.Directory:
            yield _Folder(folder.at(info.path))


def _slash(info: fs.FileInfo) -> str:
    return "/" if info.type == fs.FileType.Directory else ""


def _local_entries(folder: Location, is_linked: bool) -> Iterator[_Entry]:
    """Yield files, folders, and links that lead nowhere.

    Arrow's listing leaves such links out. Their rows would be missing without an error.
    """
    names, links = NameList(), set()
    with os.scandir(folder.path) as entries:
        for entry in entries:
            if is_linked or entry.is_symlink():
                links.add(entry.name)
            name = _listed_name(entry)
            if name is not None:
                names.append(name)
    refuse_table(folder, names, look_into=True)
    for name in names.in_order():
        is_link = name.rstrip("/") in links
        location = folder.local_child(name.rstrip("/"))
        if name.endswith("/"):
            yield _Folder(location, is_link)
            continue
        try:
            # A Path would cost more than the call.
            facts = os.stat(location.path)  # noqa: PTH116
        except OSError:
            # A link that leads nowhere. Whoever reads it is told why.
            yield ListedFile(location, 0, None)
        else:
            has_links = is_link or facts.st_nlink > 1
            yield ListedFile(location, facts.st_size, facts.st_mtime_ns, has_links)


def _listed_name(entry: os.DirEntry[str]) -> str | None:
    """Return the name of a file, or of a folder with a /; None for pipes, sockets and devices."""
    try:
        if entry.is_dir():
            return f"{entry.name}/"
        if not entry.is_file():
            # A link that leads nowhere raises.
            os.stat(entry.path)  # noqa: PTH116 - a Path would cost more than the call
            return None
    except OSError:
        pass
    return entry.name


def relative_name(location: Location, folder: Location) -> str:
    """Return the path of a location below a folder."""
    if location.is_local:
        path, start = location.text, "" if folder.text == "." else f"{folder.text.rstrip('/')}/"
        return path.removeprefix(start) if path.startswith(start) else os.path.relpath(path, start)
    return location.path.removeprefix(f"{folder.path.rstrip('/')}/")


def _names(location: Location, folder: Location) -> list[str]:
    return relative_name(location, folder).split("/")


def _is_hidden(location: Location, folder: Location) -> bool:
    if not (location.text.startswith(".") or "/." in location.text):
        return False
    name = relative_name(location, folder)
    return name.startswith(".") or "/." in name


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether a path's names match a glob's. `**` matches any number of visible folders."""
    if not patterns:
        return not names
    if patterns[0] == "**":
        hidden = (index for index, name in enumerate(names) if name.startswith("."))
        visible = next(hidden, len(names))
        return any(_matches(names[start:], patterns[1:]) for start in range(visible + 1))
    return (
        bool(names) and _matches_name(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
    )


def _matches_name(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) and (
        pattern.startswith(".") or not name.startswith(".")
    )
