"""A manifest's image reference to encoded bytes, within the limits and the policy; every refusal is a row's error."""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from aigid.errors import AigidError
from aigid.manifest import texts
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure
from aigid.storage import exists, is_folder, locate

_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM)
# What opening a socket says, or a device that is not there.
_NOT_A_FILE = (errno.ENXIO, errno.ENODEV)
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class ImageReference:
    """What a manifest row says of its image: the encoded bytes, or else a path or URI; both None for a null."""

    data: bytes | None
    path: str | None


@dataclass(frozen=True)
class FetchPolicy:
    """Where images may come from. Paths are relative to `root` (local) and stay below it unless `allow_outside`."""

    root: Path | None
    allow_outside: bool = False
    limits: DecodeLimits = field(default_factory=DecodeLimits)


def image_references(column: pa.Array) -> list[ImageReference]:
    """The references in an image column of any allowed type: bytes, text, or struct<bytes, path>."""
    if pa.types.is_struct(column.type):
        valid = column.is_valid().to_pylist()
        names = [column.type.field(index).name for index in range(column.type.num_fields)]
        data = _bytes_of(column, names)
        paths = texts(column.field("path")) if "path" in names else [None] * len(column)
        rows = zip(valid, data, paths, strict=True)
        return [ImageReference(some, path) if ok else ImageReference(None, None) for ok, some, path in rows]
    if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type) or _is_other_text(column.type):
        return [ImageReference(None, path) for path in texts(column)]
    return [ImageReference(data, None) for data in column.to_pylist()]


def image_root_of(sources: Sequence[str]) -> Path | None:
    """The folder that paths in a manifest of these sources are relative to, unless the user says; None if there is none."""
    folders = {_folder_of(source) for source in sources}
    if len(folders) > 1:
        # Paths in several folders' manifests would be looked up in the wrong one.
        return None
    return folders.pop()


def fetch_image(reference: ImageReference, policy: FetchPolicy) -> bytes:
    """The encoded bytes of an image. Raises RowFailure: empty, missing, forbidden, too_large or undecodable.

    Raises AigidError where the storage itself fails, which no other row would survive either.
    """
    if reference.data is not None:
        check_byte_limit(len(reference.data), policy.limits)
        return reference.data
    if not reference.path:
        raise RowFailure(ErrorCode.EMPTY, "the image is null" if reference.path is None else "the image's path is empty")
    path = _resolve(reference.path, policy)
    try:
        return _read_regular_file(path, policy.limits)
    except ValueError as error:
        raise RowFailure(ErrorCode.MISSING, f"{_shown(reference.path)}: {error}") from error
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise RowFailure(ErrorCode.MISSING, f"{_shown(reference.path)}: {error.strerror}") from error
        if error.errno in _NOT_ALLOWED:
            raise RowFailure(ErrorCode.FORBIDDEN, f"{_shown(reference.path)}: {error.strerror}") from error
        if error.errno in _NOT_A_FILE:
            raise RowFailure(ErrorCode.UNDECODABLE, f"{_shown(path.name)}: not a regular file") from error
        raise AigidError(f"{path}: the storage failed: {error}; run the scan again to go on") from error


def _folder_of(source: str) -> Path | None:
    location = locate(source)
    if not location.is_local:
        return None
    if is_folder(location):
        return Path(location.path)
    folder = Path(location.path).parent
    # A file that is there is no glob, whatever its folder's name looks like.
    while not exists(location) and any(sign in str(folder) for sign in "*?["):
        folder = folder.parent
    return folder


def _bytes_of(column: pa.StructArray, names: list[str]) -> list[bytes | None]:
    if "bytes" not in names:
        return [None] * len(column)
    data: list[bytes | None] = column.field("bytes").cast(pa.large_binary()).to_pylist()
    return data


def _is_other_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _resolve(text: str, policy: FetchPolicy) -> Path:
    if "://" in text:
        local = _path_of_file_uri(text)
        if local is None:
            raise RowFailure(ErrorCode.FORBIDDEN, f"{_shown(text)}: only local files and inline bytes are read")
        text = local
    if policy.root is None:
        raise RowFailure(ErrorCode.FORBIDDEN, f"{_shown(text)}: a path, but there is no local image root: give --image-root")
    try:
        root = policy.root.resolve()
        path = (root / text).resolve()
    except (ValueError, OSError, RuntimeError) as error:
        raise RowFailure(ErrorCode.MISSING, f"{_shown(text)}: {error}") from error
    if not policy.allow_outside and not path.is_relative_to(root):
        raise RowFailure(ErrorCode.FORBIDDEN, f"{_shown(text)}: outside the image root {root}; --allow-outside-root allows it")
    return path


def _path_of_file_uri(text: str) -> str | None:
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return unquote(parts.path) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def _shown(text: str) -> str:
    """A stranger's text as a part of one line: short, and without control characters."""
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return short if short.isprintable() else repr(short)


def _read_regular_file(path: Path, limits: DecodeLimits) -> bytes:
    # Without O_NONBLOCK, opening a named pipe would wait for ever.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
            raise RowFailure(ErrorCode.UNDECODABLE, f"{_shown(path.name)}: {kind}")
        check_byte_limit(facts.st_size, limits)
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(limits.max_bytes)
    finally:
        os.close(handle)
