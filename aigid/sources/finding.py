"""What a path names as a manifest: files of one kind, or images."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from aigid.errors import ManifestError
from aigid.records import escaped
from aigid.sources.files import ManifestFile
from aigid.sources.image_folder import ImageList, image_locations, is_metadata
from aigid.sources.kinds import MANIFESTS, Kind, kind_of_content, kind_of_name
from aigid.sources.links import Links, is_note
from aigid.sources.reading import identify, read_whole
from aigid.storage import (
    ListedFile,
    Listing,
    Location,
    absence_hint,
    check_name,
    exists,
    explain_absence,
    explain_failure,
    has_glob,
    list_files,
    locate,
    relative_name,
    store_failures,
    without_query,
)

OnNote = Callable[[str], None]
"""Called with what a person should know about what a path names."""

# Where files of several kinds are in a folder without Parquet files, the first of these is scanned.
_ORDER = (Kind.TAR, Kind.IMAGES, Kind.CSV, Kind.TSV, Kind.JSON_LINES)
_HEAD_BYTES = 512
# What to do with files that people have instead of manifests, by what these begin with.
_HINTS = (
    (b"[", "; write a JSON array as one object a line"),
    ((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"), "; decompress it first"),
    ((b"PK\3\4", b"7z\xbc\xaf", b"Rar!"), "; unpack it first, or save a spreadsheet as CSV"),
    ((b"ARROW1", b"\xff\xff\xff\xff", b"ORC"), "; convert it to Parquet, as with pandas"),
)
_LISTS = (".txt", ".lst", ".list")
# Endings of names that a message lists.
_SHOWN = 6


@dataclass(frozen=True)
class FoundFile:
    """A file of a manifest, and what it is."""

    kind: Kind
    file: ListedFile


def locations_of(found: FoundFile | ManifestFile) -> Iterator[Location]:
    """Yield where a file of a manifest is, or where the images of a run are."""
    if isinstance(found, FoundFile):
        yield found.file.location
    else:
        yield from image_locations(found)


def find_sources(
    path: str, on_note: OnNote, checked: set[str] | None = None
) -> Iterator[FoundFile | ManifestFile]:
    """Yield the files of a manifest at a path, folder, glob or URI; of images, runs of them.

    A folder is scanned as one kind: Parquet, else tars, else images, else tables of text. What it
    holds besides is said by `on_note`. `checked` is for `list_files`. Raises ManifestError where
    there is nothing to scan.
    """
    location = locate(path)
    try:
        listing = list_files(location, checked)
        found = _one_file(listing) if listing.is_one_file else _of_one_kind(listing, on_note)
        first = next(found, None)
        if first is None:
            raise ManifestError(f"{without_query(path)}: {_absence(location)}")
        yield first
        yield from found
    except OSError as error:
        raise ManifestError(
            f"{without_query(path)}: cannot be listed: {explain_failure(error, location)}"
        ) from error


def _absence(location: Location) -> str:
    if exists(location) or has_glob(location):
        return f"nothing to scan there: {MANIFESTS}{absence_hint(location)}"
    return f"{explain_absence(location)}{absence_hint(location)}"


def _one_file(listing: Listing) -> Iterator[FoundFile | ManifestFile]:
    for file in listing.files:
        kind = kind_of_name(file.location.path) or _kind_by_content(file.location)
        if kind is Kind.IMAGES:
            images = ImageList(listing.root)
            images.add(relative_name(file.location, listing.root), file.location)
            images.expect_captions()
            yield from images.runs()
        else:
            yield FoundFile(kind, file)


def _kind_by_content(location: Location) -> Kind:
    with store_failures(location), location.filesystem.open_input_file(location.path) as source:
        head = bytes(source.read(_HEAD_BYTES))
    kind = kind_of_content(head)
    if kind is None:
        raise ManifestError(f"{location.text}: not a manifest: {MANIFESTS}{_hint(location, head)}")
    return kind


def _hint(location: Location, head: bytes) -> str:
    """Return what to do with a file that is no manifest, where that is known; or ""."""
    if location.path.lower().endswith(_LISTS):
        return '; give a list of paths a first line "image", and the ending .csv'
    return next((hint for start, hint in _HINTS if head.lstrip().startswith(start)), "")


def _of_one_kind(listing: Listing, on_note: OnNote) -> Iterator[FoundFile | ManifestFile]:
    """Yield Parquet files as they are listed; without any, what a folder or glob has besides."""
    contents, links, has_parquet = _Contents(listing), Links(listing), False
    for file in listing.files:
        name = relative_name(file.location, listing.root)
        kind = kind_of_name(name)
        if links.is_repeated(name, kind, file):
            continue
        if kind is Kind.PARQUET and not is_metadata(name) and not is_note(name, listing):
            has_parquet = True
            yield _found(kind, file)
        elif not has_parquet:
            contents.add(name, kind, file)
    if not has_parquet:
        yield from contents.sources(on_note)


def _found(kind: Kind, file: ListedFile) -> FoundFile:
    check_name(file.location)
    return FoundFile(kind, file)


class _Contents:
    """What a folder or glob has, if it has no Parquet files."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._images = ImageList(listing.root)
        self._files: dict[Kind, list[FoundFile]] = defaultdict(list)
        self._metadata: list[FoundFile] = []
        self._unknown: list[ListedFile] = []
        self._endings: Counter[str] = Counter()

    def add(self, name: str, kind: Kind | None, file: ListedFile) -> None:
        """Take in a file that is called `name` below the folder."""
        if kind is Kind.IMAGES:
            self._images.add(name, file.location)
        elif kind is not None and is_metadata(name):
            self._metadata.append(_found(kind, file))
        elif kind is not None and not is_note(name, self._listing):
            self._files[kind].append(_found(kind, file))
        elif name.lower().endswith(".txt"):
            self._images.add_caption(name, file.location)
        else:
            self._endings[escaped(PurePosixPath(name).suffix.lower()) or "no ending"] += 1
            if self._listing.is_glob:
                check_name(file.location)
                self._unknown.append(file)

    def sources(self, on_note: OnNote) -> Iterator[FoundFile | ManifestFile]:
        """Yield what is of the first kind that is there, and say what is not scanned."""
        if not self._images:
            for found in self._metadata:
                self._files[found.kind].append(found)
        kinds = [kind for kind in (Kind.PARQUET, *_ORDER) if self._has(kind)]
        self._say_rest(kinds, on_note)
        if not kinds:
            for file in self._unknown:
                yield FoundFile(_kind_by_content(file.location), file)
        elif kinds[0] is Kind.IMAGES:
            if self._listing.is_glob:
                self._images.expect_captions()
            yield from self._images.runs([*map(self._table, self._metadata)])
        else:
            yield from self._files[kinds[0]]

    def _has(self, kind: Kind) -> bool:
        return bool(self._images) if kind is Kind.IMAGES else bool(self._files[kind])

    def _say_rest(self, kinds: list[Kind], on_note: OnNote) -> None:
        """Say what lies beside that which is scanned."""
        rest = [f"{len(self._files[kind]):,} {kind}" for kind in kinds[1:] if self._files[kind]]
        if Kind.IMAGES in kinds[1:]:
            rest.append(f"{len(self._images):,} {Kind.IMAGES}")
        rest += [f"{count:,} {ending}" for ending, count in self._endings.most_common(_SHOWN)]
        if kinds and rest:
            what = "images" if kinds[0] is Kind.IMAGES else f"{kinds[0]} files"
            on_note(
                f"{self._listing.root.text}: its {what} are scanned, and what else lies there is "
                f"not: {', '.join(rest)}"
            )

    def _table(self, found: FoundFile) -> tuple[str, pa.Table]:
        name = relative_name(found.file.location, self._listing.root)
        return name, read_whole(identify(found.kind, found.file))
