"""Explanations of object stores' errors, from the texts that their clients raise."""

import re

import pyarrow as pa
from pyarrow import fs

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


def is_denied(error: Exception, uri: StoreUri, filesystem: fs.FileSystem) -> bool:
    """Return whether the store knows the credentials, but does not let them read this object."""
    if uri.kind == "hub":
        return isinstance(error, PermissionError)
    return _explanation(_message(error, uri, filesystem), uri) == _DENIED


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
    message = " ".join(str(error).split())
    if "No response body" in message and filesystem is not None:
        other = listing_failure(uri, filesystem)
        message = message if other is None else " ".join(str(other).split())
    return re.sub(r" \(Request ID: \w+\)", "", message)[:_MESSAGE_CHARACTERS]
