"""Explanations of object stores' errors, from the texts that their clients raise."""

import re
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs

from aigid.records import ErrorCode
from aigid.storage.uri import CREDENTIALS, StoreUri

_MESSAGE_CHARACTERS = 300
_DENIED = "access is denied: check that credentials are set, and that they allow this"
# By regular expression. The first that matches wins.
_EXPLANATIONS = (
    (r"NO_SUCH_BUCKET|ContainerNotFound|bucket does not exist", "there is no such bucket"),
    (r"ExpiredToken|EXPIRED|token has expired", "the credentials have expired: renew them"),
    (
        r"INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|InvalidToken|INVALID_CLIENT_TOKEN_ID"
        r"|AuthenticationFailed",
        "the store does not accept the credentials: check the key",
    ),
    (r"REQUEST_TIME_TOO_SKEWED", "this host's clock is wrong"),
    (
        r"OAuth2 access token|DefaultAzureCredential|UNAUTHENTICATED|HTTP status 401",
        "no credentials were found",
    ),
    (r"ACCESS_DENIED|HTTP status 403|PERMISSION_DENIED|AuthorizationPermissionMismatch", _DENIED),
    (
        r"SLOW_DOWN|HTTP status 503",
        "the store is overloaded: use fewer threads or workers, or continue later",
    ),
    (r"INTERNAL_FAILURE|HTTP status 5", "the store failed"),
    (
        r"NETWORK_CONNECTION|Could not connect|Could not resolve|Couldn't",
        "the store cannot be reached",
    ),
)
# What a store says of one object, by regular expression. The first that matches wins. Those with
# True are surely of this object alone; the others may be of the whole store.
_OBJECT_FAILURES = (
    (
        r"NO_SUCH_BUCKET|ContainerNotFound|bucket does not exist|FilesystemNotFound",
        ErrorCode.MISSING,
        "there is no such bucket",
        True,
    ),
    (
        r"RESOURCE_NOT_FOUND|NO_SUCH_KEY|BlobNotFound|HTTP status 404|No such file",
        ErrorCode.MISSING,
        "no such object or bucket",
        True,
    ),
    (r"Not a regular file", ErrorCode.UNDECODABLE, "a folder, not an object", True),
    (
        r"(?i)storage class|InvalidObjectState|archived",
        ErrorCode.FORBIDDEN,
        "the object is archived: restore it, then scan again",
        True,
    ),
    (
        r"\bKMS\b|kms:",
        ErrorCode.FORBIDDEN,
        "its encryption key is disabled, or the credentials may not use it",
        True,
    ),
    (
        r"(?i)checksum|crc32|crc64|Md5Mismatch|integrity",
        ErrorCode.UNDECODABLE,
        "the object is damaged: its checksum is another one",
        True,
    ),
    (
        r"HTTP status 4(16|12)|InvalidRange|ConditionNotMet|HTTP status 304|PRECONDITION",
        ErrorCode.TIMEOUT,
        "the object was replaced while it was read: scan again",
        True,
    ),
    (
        r"HTTP status 30[0-8]|PermanentRedirect|TemporaryRedirect",
        ErrorCode.FORBIDDEN,
        "its bucket is in another region than the one that is set",
        False,
    ),
    (
        r"(?i)Server Side Encryption|HTTP status 400",
        ErrorCode.FORBIDDEN,
        "the store refuses to give the object; with a key of its customer's (SSE-C) it cannot be "
        "read",
        False,
    ),
    (
        r"HTTP status (5|408|429)|INTERNAL_FAILURE|SLOW_DOWN|SERVICE_UNAVAILABLE|THROTTLING"
        r"|NETWORK_CONNECTION|REQUEST_TIMEOUT|(?i:could not|couldn't|timed? ?out|not complete)"
        r"|flush response stream",
        ErrorCode.TIMEOUT,
        "the store does not deliver the object: scan again later",
        False,
    ),
    (
        r"ACCESS_DENIED|HTTP status 403|PERMISSION_DENIED",
        ErrorCode.FORBIDDEN,
        "access is denied",
        False,
    ),
)
_REFUSED = "the store refuses to give the object"


@dataclass(frozen=True)
class ObjectFailure:
    """Why a store does not give one object. `is_own` tells that it surely gives others."""

    code: ErrorCode
    reason: str
    is_own: bool


def object_failure(error: Exception, uri: StoreUri) -> ObjectFailure:
    """Return what an error means if the store itself is well."""
    if uri.kind == "hub":
        return _hub_failure(error)
    # The object's own name could have words of an error, and be so long that these are cut off.
    whole = " ".join(str(error).split())
    for name in (uri.path, uri.key):
        whole = whole.replace(name, "...") if len(name) > 3 else whole
    message = _shortened(whole)
    for pattern, code, reason, is_own in _OBJECT_FAILURES:
        if re.search(pattern, whole):
            said = "" if isinstance(error, FileNotFoundError) else f"; the store says: {message}"
            return ObjectFailure(code, f"{reason}{said}", is_own)
    return ObjectFailure(ErrorCode.FORBIDDEN, f"{_REFUSED}; the store says: {message}", False)


def _hub_failure(error: Exception) -> ObjectFailure:
    """Return what an error of the hub means; its class tells."""
    reason = _one_line(error)
    if isinstance(error, FileNotFoundError):
        return ObjectFailure(ErrorCode.MISSING, reason, True)
    code = ErrorCode.FORBIDDEN if isinstance(error, PermissionError) else ErrorCode.TIMEOUT
    return ObjectFailure(code, reason, False)


def store_failure(uri: StoreUri, filesystem: fs.FileSystem) -> Exception | None:
    """Ask the store for a listing, and return the error where the store itself fails.

    A listing that is denied is an answer: the store is there, and knows the credentials.
    """
    error = listing_failure(uri, filesystem)
    if error is None or _explanation(_one_line(error), uri) == _DENIED:
        return None
    return error


def explain_store_failure(error: Exception, uri: StoreUri, filesystem: fs.FileSystem | None) -> str:
    """Return in one line what an error means, and what the store's client said.

    `filesystem` is None where the error came before there was a client.
    """
    message = _message(error, uri, filesystem)
    explanation = _explanation(message, uri)
    if explanation is None:
        return message
    place = f" (looked for in {CREDENTIALS[uri.kind]})" if "credentials" in explanation else ""
    return f"{explanation}{place}; the store says: {message}"


def listing_failure(uri: StoreUri, filesystem: fs.FileSystem) -> Exception | None:
    """List an empty folder beside an object, and return the error, if any.

    The web has no listings: the answer for it is always None.
    """
    if uri.kind == "web":
        return None
    try:
        filesystem.get_file_info(fs.FileSelector(f"{uri.path}/.nothing"))
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        return error
    return None


def _explanation(message: str, uri: StoreUri) -> str | None:
    if uri.kind in ("web", "hub"):
        # Their errors explain themselves.
        return None
    return next((text for pattern, text in _EXPLANATIONS if re.search(pattern, message)), None)


def _message(error: Exception, uri: StoreUri, filesystem: fs.FileSystem | None) -> str:
    """Return the text of an error in one line.

    The answer to a request for an object's size has no body, hence no text. A listing of the same
    place fails in the same way, with a text.
    """
    message = _one_line(error)
    if "No response body" in message and filesystem is not None:
        other = listing_failure(uri, filesystem)
        message = message if other is None else _one_line(other)
    return message


def _one_line(error: Exception) -> str:
    return _shortened(" ".join(str(error).split()))


def _shortened(message: str) -> str:
    return re.sub(r" \(Request ID: \w+\)", "", message)[:_MESSAGE_CHARACTERS]
