"""From an image reference to encoded bytes, within the limits and the policy."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from aigid.fetch.from_file import fetch_file
from aigid.fetch.from_store import fetch_object, url_in_root
from aigid.fetch.from_web import fetch_url
from aigid.fetch.references import ImageReference
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, printable
from aigid.storage import (
    STORE_SCHEMES,
    URI_SCHEMES,
    WEB_SCHEMES,
    Location,
    WebSettings,
    exists,
    fixed_folder,
    has_glob,
    is_folder,
    locate,
)


@dataclass(frozen=True)
class FetchPolicy:
    """Where images may come from, and how large they may be.

    Paths are relative to `root`, a folder on a disk or in an object store. Unless `allow_outside`,
    files and objects must be below it. Unless `allow_private_addresses`, images over http and https
    must come from public addresses. `web` says how web servers are asked, and `object_deadline_s`
    how long the fetch of one object may take.
    """

    root: Location | None
    allow_outside: bool = False
    allow_private_addresses: bool = False
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    web: WebSettings = field(default_factory=WebSettings)
    object_deadline_s: float = 180.0


def image_root_of(paths: Sequence[str]) -> Location | None:
    """Return the default image root of the manifest at these paths or URIs: their one folder.

    Return None where they are in several folders. Raises UsageError and StorageError as `locate`
    does.
    """
    folders = {folder.text: folder for folder in map(_folder_of, paths)}
    # With several folders, an image path would be looked up in the wrong one.
    return folders.popitem()[1] if len(folders) == 1 else None


def is_remote(reference: ImageReference, policy: FetchPolicy) -> bool:
    """Return whether an image comes over the network, from an object store or the web."""
    if reference.data is not None or not reference.path:
        return False
    scheme = _scheme(reference.path)
    return scheme in WEB_SCHEMES or _is_object(scheme, reference.root or policy.root)


def web_host(reference: ImageReference, policy: FetchPolicy) -> str | None:
    """Return the web server that a remote image comes from, None for an object store."""
    path = reference.path or ""
    if _scheme(path) in WEB_SCHEMES:
        return path.partition("://")[2].partition("/")[0].rpartition("@")[2].lower()
    root = reference.root or policy.root
    return root.store.bucket if root is not None and root.store and root.is_web else None


def fetch_image(reference: ImageReference, policy: FetchPolicy) -> bytes:
    """Return the encoded bytes of an image.

    Raises RowFailure: empty, missing, forbidden, timeout, too_large or undecodable. Raises
    AigidError where the storage itself fails, so that other rows would fail as well.
    """
    if reference.error is not None:
        raise RowFailure(reference.error.code, reference.error.detail)
    if reference.data is not None:
        if len(reference.data) > policy.limits.max_bytes:
            # The readers of manifests cut what is longer.
            detail = f"more than {policy.limits.max_bytes} bytes"
            raise RowFailure(ErrorCode.TOO_LARGE, detail)
        check_byte_limit(len(reference.data), policy.limits)
        return reference.data
    path, root, outside = reference.path, reference.root or policy.root, policy.allow_outside
    if not path:
        raise RowFailure(
            ErrorCode.EMPTY, "the image is null" if path is None else "the image's path is empty"
        )
    if _scheme(path) is None and root is not None and root.is_web:
        # The server chooses where its redirects lead: the policy for other URLs holds here as well.
        path = url_in_root(path, root, allow_outside=outside)
    scheme = _scheme(path)
    if scheme in WEB_SCHEMES:
        private = policy.allow_private_addresses
        return fetch_url(path, policy.limits, policy.web, allow_private_addresses=private)
    if _is_object(scheme, root):
        deadline_s = policy.object_deadline_s
        return fetch_object(path, root, policy.limits, allow_outside=outside, deadline_s=deadline_s)
    local = path if scheme is None else _path_of_file_uri(path)
    if local is None:
        known = ", ".join((*URI_SCHEMES, "file"))
        raise RowFailure(
            ErrorCode.FORBIDDEN, f"{printable(path)}: the scheme is not one of {known}"
        )
    folder = Path(root.path) if root is not None and root.is_local else None
    return fetch_file(local, folder, policy.limits, allow_outside=outside)


def _is_object(scheme: str | None, root: Location | None) -> bool:
    """Return whether a reference is to an object: by its scheme, or relative to a store's root."""
    return scheme in STORE_SCHEMES or (scheme is None and root is not None and not root.is_local)


def _scheme(text: str) -> str | None:
    return text.split("://")[0].lower() if "://" in text else None


def _folder_of(path: str) -> Location:
    location = locate(path)
    if is_folder(location):
        return location
    # A file that exists is not a glob, even where its path has characters of one.
    if has_glob(location) and not exists(location):
        return fixed_folder(location)
    return location.parent


def _path_of_file_uri(text: str) -> str | None:
    """Return the path in a file URI, None for one of another host or scheme.

    It is split here: `urlsplit` loses what follows a # or a ?, and line breaks. The URI would name
    another file.
    """
    scheme, _, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    if scheme.lower() != "file" or host.lower() not in ("", "localhost"):
        return None
    special = next((character for character in "#?" if character in path), None)
    if special:
        raise RowFailure(
            ErrorCode.MISSING,
            f"{printable(text)}: write a {special} in a name as %{ord(special):02X} in a URI",
        )
    return os.fsdecode(unquote_to_bytes(slash + path))
