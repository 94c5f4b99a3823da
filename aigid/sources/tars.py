"""WebDataset tars: samples of files with one name and several endings, read as a stream."""

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any

import pyarrow as pa

from aigid.errors import AigidError, ManifestError
from aigid.sources.cell_types import PROMPT_NAMES
from aigid.sources.files import READ_ROWS, ManifestFile, Segment
from aigid.sources.kinds import Kind, kind_of_name
from aigid.sources.refusals import changed
from aigid.storage import ListedFile, Location, explain_failure, locate, store_failures

IMAGE, PROMPT = "image", "prompt"
_IMAGE_TYPE = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])
# Members with text that samples usually have, as columns of their own.
_TEXTS = ("txt", "json", "cls")

_READ_BYTES = 32 << 20
_SAMPLED_BYTES = 64 * 1024
# `tarfile` copies the rest of its buffer at each read, so it gets a small one.
_STREAM_BYTES, _BUFFER_BYTES = 1 << 20, 1 << 15
# What is larger is no caption.
_MOST_TEXT_BYTES = 16 << 20
# Of the images of one sample.
_HELD_BYTES = 64 << 20
# One byte more than an image may have: it is refused by its size.
_MOST_IMAGE_BYTES = (64 << 20) + 1


@dataclass
class _Sample:
    """The files of one sample: its images, and its texts by ending.

    Images have no captions before the sample ends. Those that would need much memory until then
    wait on the disk.
    """

    key: str
    texts: dict[str, str] = field(default_factory=dict)
    _images: list[tuple[str, bytes | range | None]] = field(default_factory=list)
    _held_bytes: int = 0
    _disk: IO[bytes] | None = None

    @property
    def has_images(self) -> bool:
        """Whether it makes rows."""
        return bool(self._images)

    def add_image(self, name: str, data: bytes | None) -> None:
        """Add an image; None for one whose content is elsewhere."""
        content: bytes | range | None = data
        if data is not None and self._held_bytes + len(data) > _HELD_BYTES:
            if self._disk is None:
                self._disk = tempfile.TemporaryFile(prefix="aigid-")  # noqa: SIM115 - see close
            start = self._disk.seek(0, os.SEEK_END)
            content = range(start, start + self._disk.write(data))
        else:
            self._held_bytes += len(data or b"")
        self._images.append((name, content))

    def images(self) -> Iterator[tuple[str, bytes | None]]:
        """Yield the name of each image and its content."""
        for name, content in self._images:
            if isinstance(content, range):
                assert self._disk is not None, "it was written to"
                self._disk.seek(content.start)
                yield name, self._disk.read(len(content))
            else:
                yield name, content

    def close(self) -> None:
        """Free the disk."""
        if self._disk is not None:
            self._disk.close()

    def values(self) -> dict[str, Any]:
        """Return the object in its `json` member; nothing where it is none."""
        try:
            found = json.loads(self.texts.get("json", "{}"))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def identify_tar(listed: ListedFile) -> ManifestFile:
    """Return a tar's identity, and the columns that its first sample has.

    Its rows are known when it was read. Two tars are taken for the same if they have the same
    size, and the same bytes at their start and end. Raises ManifestError if it is no tar.
    """
    location = listed.location
    try:
        with store_failures(location):
            with location.filesystem.open_input_file(location.path) as source:
                size, digest = source.size(), _digest(source)
            first = next(_samples(location), None)
    except FileNotFoundError as error:
        raise ManifestError(f"{location.text}: no such file") from error
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ManifestError(
            f"{location.text}: not a readable tar: {explain_failure(error, location)}"
        ) from error
    return ManifestFile(
        location.text,
        size,
        (),
        digest,
        listed.modified_ns,
        location.hidden_query,
        Kind.TAR,
        _schema(first),
    )


def count_rows(file: ManifestFile, most: int) -> int:
    """Return the number of a tar's rows, or `most` if it has more. Reads it up to there."""
    with _damage(file.path):
        return sum(1 for _ in islice(_rows(locate(file.uri)), most))


def read_tar(segment: Segment, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment in order, at most READ_ROWS at a time, in these columns.

    A row is an image of a sample. `image` has its bytes and its name in the tar. `prompt` is the
    sample's text, or a usual name in its JSON object. Other columns are texts and JSON values.
    Raises AigidError if the tar is damaged, or has changed since the manifest was opened.
    """
    file, location = segment.file, locate(segment.file.uri)
    with _damage(file.path):
        _check_unchanged(file, location)
        rows, size = [], 0
        for row in islice(_rows(location), segment.start, segment.stop):
            rows.append(row)
            size += len(row[1] or b"")
            if len(rows) == READ_ROWS or size >= _READ_BYTES:
                yield _batch(rows, names)
                rows, size = [], 0
        if rows:
            yield _batch(rows, names)


@dataclass(frozen=True)
class SampleRange:
    """Where the members of a sample are in a tar, without compression, and its number of rows."""

    start: int
    stop: int
    rows: int


def sample_ranges(file: ManifestFile) -> Iterator[SampleRange]:
    """Yield the samples of a tar in order, also those without rows.

    Raises AigidError if the tar is damaged, or has changed since the manifest was opened.
    """
    location, key, found = locate(file.uri), None, SampleRange(0, 0, 0)
    with _damage(file.path):
        _check_unchanged(file, location)
        for member, tar in _members(location):
            now, _ = _split(member.name)
            if now != key:
                if key is not None:
                    yield found
                key, found = now, SampleRange(member.offset, member.offset, 0)
            is_image = kind_of_name(member.name) is Kind.IMAGES and not member.isdir()
            found = SampleRange(found.start, tar.offset, found.rows + is_image)
        if key is not None:
            yield found


@contextmanager
def tar_stream(file: ManifestFile) -> Iterator[pa.NativeFile]:
    """Open the bytes of a tar without compression, to be read once."""
    with _damage(file.path), _opened(locate(file.uri)) as stream:
        yield stream


_Row = tuple[str, bytes | None, _Sample]


def _rows(location: Location) -> Iterator[_Row]:
    for sample in _samples(location):
        for name, data in sample.images():
            yield name, data, sample


def _samples(location: Location) -> Iterator[_Sample]:
    """Yield the samples that have images. Raises tarfile.ReadError where the tar is damaged."""
    sample = _Sample("")
    try:
        for member, tar in _members(location):
            key, ending = _split(member.name)
            if key != sample.key:
                if sample.has_images:
                    yield sample
                sample.close()
                sample = _Sample(key)
            _add(sample, member, ending, tar)
        if sample.has_images:
            yield sample
    finally:
        sample.close()


def _members(location: Location) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Yield the members of a tar, each to be read before the next is asked for."""
    with _opened(location) as opened:
        stream = _Stream(opened)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER_BYTES) as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                yield member, tar
                # Otherwise it keeps all members.
                tar.members = []
            stream.check_end(tar.offset)


@contextmanager
def _opened(location: Location) -> Iterator[pa.NativeFile]:
    is_gzip = not location.path.lower().endswith(".tar")
    with location.filesystem.open_input_stream(
        location.path, compression=None, buffer_size=_STREAM_BYTES
    ) as raw:
        yield pa.CompressedInputStream(raw, "gzip") if is_gzip else raw


class _Stream:
    """The bytes of a tar, and where they are not zero.

    `tarfile` takes a damaged header for the end.
    """

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._bytes = self._content_end = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        data = bytes(self._stream.read(size))
        content = len(data.rstrip(b"\0"))
        if content:
            self._content_end = self._bytes + content
        self._bytes += len(data)
        return data

    def check_end(self, offset: int) -> None:
        """Raise tarfile.ReadError unless zeros follow `offset`, a block at least, up to the end."""
        while self.read(_STREAM_BYTES):
            pass
        if self._content_end > offset:
            raise tarfile.ReadError(f"damaged, or two tars in one, at byte {offset:,}")
        if self._bytes < offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the end is missing; is the file truncated?")


def _add(sample: _Sample, member: tarfile.TarInfo, ending: str, tar: tarfile.TarFile) -> None:
    is_image = kind_of_name(member.name) is Kind.IMAGES and not member.isdir()
    is_text = ending in _TEXTS and member.isreg() and member.size <= _MOST_TEXT_BYTES
    if not (is_image or is_text):
        return
    content = tar.extractfile(member) if member.isreg() else None
    data = None if content is None else content.read(min(member.size, _MOST_IMAGE_BYTES))
    if is_image:
        # A link has no content of its own: its row has a null.
        sample.add_image(_printable(member.name), data)
    elif data is not None:
        sample.texts[ending] = data.decode("utf-8", "replace").removeprefix("\ufeff").strip()


def _split(name: str) -> tuple[str, str]:
    """Return the key of a member and its ending: both meet at the first dot of its own name."""
    folder, slash, own = name.rpartition("/")
    stem, _, ending = own.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _schema(first: _Sample | None) -> pa.Schema:
    texts = [] if first is None else [name for name in _TEXTS if name in first.texts]
    values = [] if first is None else [*first.values()]
    names = dict.fromkeys([PROMPT, *texts, *values])
    names.pop(IMAGE, None)
    return pa.schema([(IMAGE, _IMAGE_TYPE), *((name, pa.string()) for name in names)])


def _batch(rows: list[_Row], names: list[str]) -> pa.RecordBatch:
    values = [sample.values() for _, _, sample in rows]
    columns = []
    for name in names:
        if name == IMAGE:
            cells = [{"bytes": data, "path": path} for path, data, _ in rows]
            columns.append(pa.array(cells, _IMAGE_TYPE))
        else:
            texts = [
                _text(sample, found, name)
                for (_, _, sample), found in zip(rows, values, strict=True)
            ]
            columns.append(pa.array(texts, pa.string()))
    return pa.RecordBatch.from_arrays(columns, names)


def _text(sample: _Sample, values: dict[str, Any], name: str) -> str | None:
    if name == PROMPT:
        usual = (values[key] for key in PROMPT_NAMES if isinstance(values.get(key), str))
        found = sample.texts.get("txt", next(usual, None))
    elif name in _TEXTS:
        found = sample.texts.get(name)
    else:
        found = values.get(name)
    if found is None:
        return None
    text = found if isinstance(found, str) else json.dumps(found)
    return text.encode("utf-8", "replace").decode()


def _check_unchanged(file: ManifestFile, location: Location) -> None:
    with location.filesystem.open_input_file(location.path) as source:
        if (source.size(), _digest(source)) != (file.size_bytes, file.digest):
            raise changed(file)


def _digest(source: pa.NativeFile) -> str:
    """Return the SHA-256 of the first and the last bytes."""
    start = bytes(source.read(_SAMPLED_BYTES))
    source.seek(max(0, source.size() - _SAMPLED_BYTES))
    return hashlib.sha256(start + bytes(source.read(_SAMPLED_BYTES))).hexdigest()


@contextmanager
def _damage(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, tarfile.TarError, EOFError) as error:
        raise AigidError(
            f"{path}: cannot be read: {' '.join(str(error).split())}; "
            "repair or replace the file, then run the scan again"
        ) from error
