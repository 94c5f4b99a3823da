"""Images in object stores: below the image root, or where that is allowed anywhere that our credentials may read."""

import posixpath
from dataclasses import replace

import pyarrow as pa

from aigid.errors import StorageError, UsageError
from aigid.pixels import DecodeLimits, check_byte_limit
from aigid.records import ErrorCode, RowFailure, shown
from aigid.storage import Location, explain_failure, is_forbidden, locate, parse_store_uri


def fetch_object(
    text: str, root: Location | None, limits: DecodeLimits, *, allow_outside: bool
) -> bytes:
    """The bytes of the object that `text`, a URI or a path relative to `root`, names.

    Raises RowFailure: missing, forbidden, too_large, empty. Raises StorageError where the store itself fails.
    """
    location = _object(text, root, allow_outside)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            check_byte_limit(source.size(), limits)
            return bytes(source.read())
    except FileNotFoundError as error:
        raise RowFailure(ErrorCode.MISSING, f"{shown(text)}: no such object") from error
    except (OSError, pa.ArrowException) as error:
        if is_forbidden(error, location):
            raise RowFailure(ErrorCode.FORBIDDEN, f"{shown(text)}: access is denied") from error
        reason = explain_failure(error, location)
        raise StorageError(f"{location.text}: {reason}; run the scan again to go on") from error


def _object(text: str, root: Location | None, allow_outside: bool) -> Location:
    location = _named(text, root, allow_outside) if "://" in text else _relative(text, root)
    if not allow_outside and not (root and location.is_below(root)):
        raise _outside(text, root)
    return location


def _outside(text: str, root: Location | None) -> RowFailure:
    where = f"outside the image root {root.text}" if root else "there is no one image root"
    return RowFailure(
        ErrorCode.FORBIDDEN, f"{shown(text)}: {where}; --allow-outside-root allows it"
    )


def _relative(text: str, root: Location | None) -> Location:
    if root is None:
        raise RowFailure(
            ErrorCode.FORBIDDEN,
            f"{shown(text)}: a path, but there is no image root: give --image-root",
        )
    return root.at(posixpath.normpath(f"{root.path}/{text}"))


def _named(text: str, root: Location | None, allow_outside: bool) -> Location:
    try:
        uri = parse_store_uri(text)
        ours = root.store if root is not None else None
        if uri.query and (ours is None or uri.query != ours.query):
            # Our credentials would sign requests for whatever server a stranger names there.
            raise RowFailure(
                ErrorCode.FORBIDDEN,
                f"{shown(text)}: a manifest does not choose the server or region",
            )
        if (
            ours is not None
            and root is not None
            and (ours.scheme, ours.bucket) == (uri.scheme, uri.bucket)
        ):
            return root.at(posixpath.normpath(uri.path))
        if not allow_outside:
            raise _outside(text, root)
        query = ours.query if ours is not None and ours.scheme == uri.scheme else ""
        return locate(replace(uri.at(posixpath.normpath(uri.path)), query=query).text)
    except UsageError as error:
        raise RowFailure(ErrorCode.MISSING, f"{shown(text)}: not an object's URI") from error
