"""Images in object stores: below the image root, or anywhere that the credentials may read."""

import posixpath
import time
from dataclasses import replace
from functools import partial
from urllib.parse import quote

import pyarrow as pa

from aigid.errors import MissingExtraError, StorageError, UsageError
from aigid.fetch.deadline import within_deadline
from aigid.fetch.from_web import HostUnreachable
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, printable
from aigid.storage import (
    Location,
    MalformedUriError,
    StoreUri,
    explain_failure,
    failure_of_store,
    locate,
    object_failure,
    parse_store_uri,
)

# Of Amazon and Google; Azure has as many characters. Some servers fail for longer ones.
_MAX_KEY_BYTES = 1024
# An object that is replaced while it is read comes short. The next read meets the new one.
_READS = 3
_FIRST_PAUSE_S = 1.0
# No image format ends with it.
_UNTOUCHED = 0x5A


def fetch_object(
    text: str,
    root: Location | None,
    limits: DecodeLimits,
    *,
    allow_outside: bool,
    deadline_s: float,
) -> bytes:
    """Return the bytes of the object that `text` names: a URI, or a path relative to `root`.

    Raises RowFailure: missing, forbidden, timeout, too_large, empty or undecodable. Raises
    StorageError where the store of `root` itself fails, or any store refuses the credentials.
    """
    fetch = partial(_fetch, text, root, limits, allow_outside=allow_outside)
    try:
        return within_deadline(fetch, deadline_s)
    except TimeoutError as error:
        detail = f"{printable(text)}: {error}"
        raise HostUnreachable(ErrorCode.TIMEOUT, detail, text, is_store=True) from error


def _fetch(text: str, root: Location | None, limits: DecodeLimits, *, allow_outside: bool) -> bytes:
    location = _object(text, root, allow_outside)
    _check_key(text, location, root)
    try:
        return _read(location, limits)
    except (OSError, pa.ArrowException) as error:
        raise _failure(error, text, location, root) from error


def _check_key(text: str, location: Location, root: Location | None) -> None:
    """Raise RowFailure for a key that no object can have, or that a client reads otherwise."""
    key, reason = location.path.partition("/")[2], None
    if len(key.encode()) > _MAX_KEY_BYTES:
        reason = f"a key has at most {_MAX_KEY_BYTES:,} bytes"
    elif "\0" in key:
        # Amazon's client ends the key there, and would ask for another object.
        reason = "a key with a NUL cannot be opened"
    elif root is not None and location.path == root.path:
        reason = "it is the image root itself"
    if reason:
        raise RowFailure(ErrorCode.MISSING, f"{printable(text)}: no such object: {reason}")


def _read(location: Location, limits: DecodeLimits) -> bytes:
    for attempt in range(_READS):
        try:
            data = _read_once(location, limits)
        except OSError as error:
            # An error whose text is longer than the object has no room: Amazon's client does not
            # know which one it is, and does not try again.
            if attempt == _READS - 1 or "flush response stream" not in str(error):
                raise
            time.sleep(_FIRST_PAUSE_S * 2**attempt)
        else:
            if data is not None:
                return data
    raise OSError("InvalidRange: the object came short")


def _read_once(location: Location, limits: DecodeLimits) -> bytes | None:
    """Return the bytes of an object, None where it came short."""
    with location.filesystem.open_input_file(location.path) as file:
        size = file.size()
        check_byte_limit(size, limits)
        # Where a part of an S3 object comes short, PyArrow returns the rest of its buffer as it
        # finds it. It also reads the text of an error there.
        data = bytearray(size)
        data[-1] = _UNTOUCHED
        count = file.readinto(data)
        whole = count == size and (data[-1] != _UNTOUCHED or _last_byte(file) == _UNTOUCHED)
        return bytes(data) if whole else None


def _last_byte(file: pa.NativeFile) -> int:
    last = bytearray([_UNTOUCHED ^ 0xFF])
    file.seek(file.size() - 1)
    file.readinto(last)
    return last[0]


def _failure(error: Exception, text: str, location: Location, root: Location | None) -> Exception:
    """Return the row's failure, or a StorageError where the store itself fails.

    The store is asked for a listing, unless the error is surely of this object alone.
    """
    uri = location.store
    assert uri is not None, "an object is in a store"
    failure = object_failure(error, uri)
    if not failure.is_own:
        of_store = failure_of_store(location)
        if of_store is not None:
            return _store_failure(of_store, text, location, root)
    detail = f"{printable(text)}: {failure.reason}"
    if failure.code is ErrorCode.TIMEOUT:
        return HostUnreachable(failure.code, detail, uri.root, is_store=True)
    return RowFailure(failure.code, detail)


def _store_failure(
    error: Exception, text: str, location: Location, root: Location | None
) -> Exception:
    """Return a StorageError for the root's store, and for credentials that no store accepts.

    A store that only a row names is that row's trouble, such as an account that does not exist.
    """
    reason = explain_failure(error, location)
    is_root = root is not None and root.filesystem == location.filesystem
    if is_root or ("credentials" in reason and "no credentials" not in reason):
        return StorageError(f"{location.text}: {reason}; run the scan again to continue")
    if isinstance(error, PermissionError):
        return RowFailure(ErrorCode.FORBIDDEN, f"{printable(text)}: {reason}")
    code = ErrorCode.FORBIDDEN if "no credentials" in reason else ErrorCode.TIMEOUT
    host = location.store.root if location.store is not None else location.text
    return HostUnreachable(code, f"{printable(text)}: {reason}", host, is_store=True)


def url_in_root(text: str, root: Location, *, allow_outside: bool) -> str:
    """Return the URL of an image at a path relative to `root`, a folder on a web server.

    It is without the query of `root`, which may hold the signature of the manifest's own URL.
    Raises RowFailure: forbidden.
    """
    location = _from_path(quote(text), root)
    if location.store is None or not (allow_outside or location.is_below(root)):
        raise _outside(text, root)
    return replace(location.store, query="").text


def _object(text: str, root: Location | None, allow_outside: bool) -> Location:
    location = _from_uri(text, root, allow_outside) if "://" in text else _from_path(text, root)
    if not allow_outside and not (root and location.is_below(root)):
        raise _outside(text, root)
    return location


def _outside(text: str, root: Location | None) -> RowFailure:
    if root is None:
        detail = "there is no image root that it could be below (image_root, allow_outside_root)"
    else:
        detail = f"outside the image root {root.text} (allow_outside_root)"
    return RowFailure(ErrorCode.FORBIDDEN, f"{printable(text)}: {detail}")


def _from_path(text: str, root: Location | None) -> Location:
    """Return the object at a path relative to `root`; `..` leads up, but not out of the bucket."""
    if root is None or root.store is None:
        raise RowFailure(
            ErrorCode.FORBIDDEN, f"{printable(text)}: a path needs an image root (image_root)"
        )
    path, bucket = posixpath.normpath(f"{root.path}/{text}"), root.store.bucket
    if "" in text.split("/"):
        raise RowFailure(ErrorCode.MISSING, f"{printable(text)}: a part of the path is empty")
    if not f"{path}/".startswith(f"{bucket}/"):
        raise _outside(text, root)
    return root.at(path)


def _from_uri(text: str, root: Location | None, allow_outside: bool) -> Location:
    try:
        uri = parse_store_uri(text)
        root_uri = root.store if root is not None else None
        if uri.query and (root_uri is None or uri.query != root_uri.query):
            # It would have our credentials sign requests to a server that a stranger chose.
            raise RowFailure(
                ErrorCode.FORBIDDEN,
                f"{printable(text)}: a manifest may not set the server or region",
            )
        if text.endswith("/"):
            raise RowFailure(ErrorCode.MISSING, f"{printable(text)}: the URI of a folder")
        if root is not None and root_uri is not None and _same_bucket(root_uri, uri):
            return root.at(uri.path)
        if not allow_outside:
            raise _outside(text, root)
        query = root_uri.query if root_uri is not None and root_uri.scheme == uri.scheme else ""
        return locate(replace(uri, query=query).text)
    except MissingExtraError:
        raise
    except StorageError as error:
        # The row's own store. Its region cannot be found, or its client cannot be made.
        detail = f"{printable(text)}: {error}"
        if "not found" in str(error):
            raise RowFailure(ErrorCode.MISSING, detail) from error
        raise HostUnreachable(ErrorCode.TIMEOUT, detail, uri.root, is_store=True) from error
    except UsageError as error:
        reason = error.reason if isinstance(error, MalformedUriError) else str(error)
        raise RowFailure(ErrorCode.MISSING, f"{printable(text)}: {reason}") from error


def _same_bucket(one: StoreUri, other: StoreUri) -> bool:
    return (one.scheme, one.bucket, one.account) == (other.scheme, other.bucket, other.account)
