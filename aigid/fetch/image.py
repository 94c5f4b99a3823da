"""A manifest's image reference to encoded bytes, within the limits and the policy; every refusal is a row's error."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from aigid.fetch.from_file import fetch_file
from aigid.fetch.from_store import fetch_object
from aigid.manifest import texts
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, shown
from aigid.storage import (
    STORE_SCHEMES,
    URI_SCHEMES,
    Location,
    exists,
    fixed_folder,
    has_glob,
    is_folder,
    locate,
)
from aigid.storage.http import WEB_SCHEMES, Unreachable, fetch_web


@dataclass(frozen=True)
class ImageReference:
    """What a manifest row says of its image: the encoded bytes, or else a path or URI; both None for a null."""

    data: bytes | None
    path: str | None


@dataclass(frozen=True)
class FetchPolicy:
    """Where images may come from.

    Paths are relative to `root`, a folder or one of an object store, and stay below it unless `allow_outside`. Images over
    http and https come from public addresses, unless `allow_private_addresses`.
    """

    root: Location | None
    allow_outside: bool = False
    allow_private_addresses: bool = False
    limits: DecodeLimits = field(default_factory=DecodeLimits)


def image_references(column: pa.Array) -> list[ImageReference]:
    """The references in an image column of any allowed type: bytes, text, or struct<bytes, path>."""
    if pa.types.is_struct(column.type):
        valid = column.is_valid().to_pylist()
        names = [column.type.field(index).name for index in range(column.type.num_fields)]
        data = _bytes_of(column, names)
        paths = texts(column.field("path")) if "path" in names else [None] * len(column)
        rows = zip(valid, data, paths, strict=True)
        return [
            ImageReference(some, path) if ok else ImageReference(None, None)
            for ok, some, path in rows
        ]
    if (
        pa.types.is_dictionary(column.type)
        or pa.types.is_string(column.type)
        or _is_other_text(column.type)
    ):
        return [ImageReference(None, path) for path in texts(column)]
    return [ImageReference(data, None) for data in column.to_pylist()]


def image_root_of(sources: Sequence[str]) -> Location | None:
    """The folder that paths in a manifest of these sources are relative to, unless the user says; None if there is none."""
    folders = {folder.text: folder for folder in map(_folder_of, sources)}
    # Paths in several folders' manifests would be looked up in the wrong one.
    return folders.popitem()[1] if len(folders) == 1 else None


def is_remote(reference: ImageReference, policy: FetchPolicy) -> bool:
    """Whether an image must be waited for, from a store or the web."""
    if reference.data is not None or not reference.path:
        return False
    scheme = _scheme(reference.path)
    return scheme in WEB_SCHEMES or _is_object(scheme, policy.root)


def fetch_image(reference: ImageReference, policy: FetchPolicy) -> bytes:
    """The encoded bytes of an image. Raises RowFailure: empty, missing, forbidden, timeout, too_large or undecodable.

    Raises AigidError where the storage itself fails, which no other row would survive either.
    """
    if reference.data is not None:
        check_byte_limit(len(reference.data), policy.limits)
        return reference.data
    path, root, outside = reference.path, policy.root, policy.allow_outside
    if not path:
        raise RowFailure(
            ErrorCode.EMPTY, "the image is null" if path is None else "the image's path is empty"
        )
    scheme = _scheme(path)
    if scheme in WEB_SCHEMES:
        return _fetch_web(path, policy)
    if _is_object(scheme, root):
        return fetch_object(path, root, policy.limits, allow_outside=outside)
    local = path if scheme is None else _path_of_file_uri(path)
    if local is None:
        known = ", ".join((*URI_SCHEMES, "file"))
        raise RowFailure(ErrorCode.FORBIDDEN, f"{shown(path)}: of URIs, {known} are read")
    folder = Path(root.path) if root is not None and root.is_local else None
    return fetch_file(local, folder, policy.limits, allow_outside=outside)


def _fetch_web(url: str, policy: FetchPolicy) -> bytes:
    try:
        data = fetch_web(url, policy.limits.max_bytes, allow_private=policy.allow_private_addresses)
    except Unreachable as failure:
        raise Unreachable(
            failure.error.code, f"{shown(url)}: {failure.error.detail}", failure.host
        ) from failure
    except RowFailure as failure:
        raise RowFailure(failure.error.code, f"{shown(url)}: {failure.error.detail}") from failure
    check_byte_limit(len(data), policy.limits)
    return data


def _is_object(scheme: str | None, root: Location | None) -> bool:
    """Whether a reference is to an object: by its own scheme, or relative to a root that is in a store."""
    return scheme in STORE_SCHEMES or (scheme is None and root is not None and not root.is_local)


def _scheme(text: str) -> str | None:
    return text.split("://")[0].lower() if "://" in text else None


def _folder_of(source: str) -> Location:
    location = locate(source)
    if is_folder(location):
        return location
    # A file that is there is no glob, whatever its folder's name looks like.
    if has_glob(location) and not exists(location):
        return fixed_folder(location)
    return location.parent


def _bytes_of(column: pa.StructArray, names: list[str]) -> list[bytes | None]:
    if "bytes" not in names:
        return [None] * len(column)
    data: list[bytes | None] = column.field("bytes").cast(pa.large_binary()).to_pylist()
    return data


def _is_other_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _path_of_file_uri(text: str) -> str | None:
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return (
        unquote(parts.path)
        if parts.scheme == "file" and parts.netloc in ("", "localhost")
        else None
    )
