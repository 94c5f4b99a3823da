"""What the failures of object stores mean, from the words of their clients."""

import re

import pyarrow as pa
from pyarrow import fs

from aigid.storage.uri import CREDENTIALS, StoreUri

_MESSAGE_CHARACTERS = 300
_DENIED = "access is denied: are there credentials, and do they allow it?"
# In their order of telling.
_MEANINGS = (
    (r"NO_SUCH_BUCKET|ContainerNotFound|bucket does not exist", "there is no such bucket"),
    (r"ExpiredToken|EXPIRED|token has expired", "the credentials have expired: renew them"),
    (
        r"INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|InvalidToken|INVALID_CLIENT_TOKEN_ID|AuthenticationFailed",
        "the store does not know the credentials: a wrong key?",
    ),
    (r"REQUEST_TIME_TOO_SKEWED", "this machine's clock is wrong"),
    (
        r"OAuth2 access token|DefaultAzureCredential|UNAUTHENTICATED|HTTP status 401",
        "no credentials are found",
    ),
    (r"ACCESS_DENIED|HTTP status 403|PERMISSION_DENIED|AuthorizationPermissionMismatch", _DENIED),
    (r"SLOW_DOWN|HTTP status 503", "the store is overloaded: use fewer workers, or go on later"),
    (r"INTERNAL_FAILURE|HTTP status 5", "the store fails"),
    (
        r"NETWORK_CONNECTION|Could not connect|Could not resolve|Couldn't",
        "the store cannot be reached",
    ),
)


def explain_store_failure(error: Exception, uri: StoreUri, filesystem: fs.FileSystem | None) -> str:
    """What a failure means, in one line; without a client where there is none yet."""
    said = _said(error, uri, filesystem)
    meaning = _meaning(said, uri)
    if meaning is None:
        return said
    place = f" (looked for in {CREDENTIALS[uri.kind]})" if "credentials" in meaning else ""
    return f"{meaning}{place}; the store says: {said}"


def is_denied(error: Exception, uri: StoreUri, filesystem: fs.FileSystem) -> bool:
    """Whether a failure is of one object that may not be read, with credentials that are good."""
    return _meaning(_said(error, uri, filesystem), uri) == _DENIED


def listing_failure(uri: StoreUri, filesystem: fs.FileSystem) -> Exception | None:
    """What fails when an empty folder beside an object is listed, if that does; the web has no listings."""
    if uri.kind == "web":
        return None
    try:
        filesystem.get_file_info(fs.FileSelector(f"{uri.path}/.nothing"))
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        return error
    return None


def _meaning(said: str, uri: StoreUri) -> str | None:
    if uri.kind == "web":
        return None
    return next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, said)), None)


def _said(error: Exception, uri: StoreUri, filesystem: fs.FileSystem | None) -> str:
    """What the store said, in one line. To a question for an object's size it has no words: a listing is asked then."""
    said = " ".join(str(error).split())
    if "No response body" in said and filesystem is not None:
        other = listing_failure(uri, filesystem)
        said = said if other is None else " ".join(str(other).split())
    return re.sub(r" \(Request ID: \w+\)", "", said)[:_MESSAGE_CHARACTERS]
