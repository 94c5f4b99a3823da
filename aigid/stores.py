"""Object stores: a URI to the client that reaches it, one for each store in a process, and what its failures mean.

Credentials come from where each store's own tools look for them (environment, files of the user's, the machine's role), and
from nowhere else: a URI ends up in results and logs.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from aigid.errors import UsageError

STORE_SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
# With pauses that double between them, up to 20 s, a store may fail for most of a minute; AWS_MAX_ATTEMPTS says otherwise.
_ATTEMPTS = "10"
_CONNECT_S, _SILENCE_S = 10, 30
_RETRY_GCS = timedelta(seconds=60)
_MESSAGE_CHARACTERS = 300

_OPTIONS = {
    "s3": ("region", "endpoint_override", "scheme"),
    "gs": ("endpoint_override", "scheme"),
    "az": ("blob_storage_authority", "blob_storage_scheme", "dfs_storage_authority", "dfs_storage_scheme"),
}

# What the stores' clients say, in their order of telling, and what of it a person can act upon.
_DENIED = re.compile(r"ACCESS_DENIED|HTTP status 403|PERMISSION_DENIED|AuthorizationPermissionMismatch|\b403 ")
_MEANINGS = (
    (re.compile(r"NO_SUCH_BUCKET|ContainerNotFound|bucket does not exist", re.IGNORECASE), "there is no such bucket"),
    (re.compile(r"ExpiredToken|EXPIRED|token has expired", re.IGNORECASE), "the credentials have expired: renew them"),
    (
        re.compile(r"INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|InvalidToken|INVALID_CLIENT_TOKEN_ID|AuthenticationFailed"),
        "the store does not know the credentials: a wrong key?",
    ),
    (re.compile(r"REQUEST_TIME_TOO_SKEWED"), "this machine's clock is wrong"),
    (re.compile(r"OAuth2 access token|DefaultAzureCredential|UNAUTHENTICATED|\b401 "), "no credentials are found"),
    (_DENIED, "access is denied: are there credentials, and do they allow it?"),
    (re.compile(r"SLOW_DOWN|HTTP status 503"), "the store is overloaded: use fewer workers, or go on later"),
    (re.compile(r"INTERNAL_FAILURE|HTTP status 5"), "the store fails"),
    (re.compile(r"NETWORK_CONNECTION|Could not connect|Could not resolve|Couldn't"), "the store cannot be reached"),
)
_PLACES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or the machine's service account",
    "az": "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, `az login`, or the machine's identity",
}


@dataclass(frozen=True)
class StoreUri:
    """A URI of an object store, taken apart: `root` is its text up to the bucket, `key` what is below that."""

    scheme: str
    root: str
    bucket: str
    key: str
    options: tuple[tuple[str, str], ...]
    account: str | None = None

    @property
    def path(self) -> str:
        """Where Arrow's clients find it."""
        return f"{self.bucket}/{self.key}".rstrip("/")

    def at(self, path: str) -> "StoreUri":
        """Another of Arrow's paths in the same store."""
        return replace(self, key=path.removeprefix(self.bucket).strip("/"))

    @property
    def text(self) -> str:
        """The URI, as a user would write it."""
        # Signs that would be read as something else, and what no line of text should hold.
        shown = "".join(quote(sign) if sign in "%?#" or not sign.isprintable() else sign for sign in self.key)
        query = "&".join(f"{name}={value}" for name, value in self.options)
        return f"{self.root}/{shown}" + (f"?{query}" if query else "")


def parse_store_uri(text: str) -> StoreUri:
    """Take a URI apart; raises UsageError where it cannot be one, or holds credentials."""
    parts = urlsplit(text)
    scheme = parts.scheme.lower()
    kind = _kind(scheme)
    host, account = parts.netloc, None
    if scheme in ("abfs", "abfss"):
        host, _, domain = parts.netloc.partition("@")
        account = domain.split(".")[0]
    elif "@" in parts.netloc or ":" in parts.netloc:
        raise UsageError(f"{scheme}://...@: credentials do not belong in a URI; they are found in {_PLACES[kind]}")
    if not re.fullmatch(r"[\w.$-]+", host, re.ASCII) or (scheme in ("abfs", "abfss") and not account):
        form = "CONTAINER@ACCOUNT.dfs.core.windows.net" if scheme in ("abfs", "abfss") else "BUCKET"
        raise UsageError(f"{text}: not a location that can be opened: give {scheme}://{form}/KEY")
    options = parse_qsl(parts.query, keep_blank_values=True)
    unknown = [name for name, value in options if name not in _OPTIONS[kind] or not value]
    if unknown or parts.fragment or text.endswith("#"):
        sign = "?" if unknown else "#"
        raise UsageError(
            f"{text}: not a location that can be opened: behind ? are {', '.join(_OPTIONS[kind])}; "
            f"in a URI, write %{ord(sign):02X} for a {sign} in a name"
        )
    return StoreUri(scheme, f"{scheme}://{parts.netloc}", host, unquote(parts.path).strip("/"), tuple(options), account)


def open_store(uri: StoreUri) -> fs.FileSystem:
    """The client for a store. Raises UsageError where its account is not said, and OSError where it cannot be reached."""
    kind = _kind(uri.scheme)
    if kind == "s3":
        return _s3(uri.bucket, uri.options)
    return _gs(uri.options) if kind == "gs" else _az(uri.account, uri.options)


def explain_store_failure(error: Exception, uri: StoreUri, filesystem: fs.FileSystem | None) -> str:
    """What a failure means, in one line; without a client where there is none yet."""
    said = _said(error, uri, filesystem)
    meaning = next((meaning for pattern, meaning in _MEANINGS if pattern.search(said)), None)
    if meaning is None:
        return said
    place = f" (looked for in {_PLACES[_kind(uri.scheme)]})" if "credentials" in meaning else ""
    return f"{meaning}{place}; the store says: {said}"


def is_denied(error: Exception, uri: StoreUri, filesystem: fs.FileSystem) -> bool:
    """Whether a failure is of one object that may not be read, with credentials that are good."""
    said = _said(error, uri, filesystem)
    first = next((pattern for pattern, _ in _MEANINGS if pattern.search(said)), None)
    return first is _DENIED


def listing_failure(uri: StoreUri, filesystem: fs.FileSystem) -> Exception | None:
    """What fails when an empty folder beside an object is listed, if that does."""
    try:
        filesystem.get_file_info(fs.FileSelector(f"{uri.path}/.nothing"))
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        return error
    return None


def _kind(scheme: str) -> str:
    return "az" if scheme in ("abfs", "abfss") else scheme


def _said(error: Exception, uri: StoreUri, filesystem: fs.FileSystem | None) -> str:
    """What the store said, in one line. To a question for an object's size it has no words: a listing is asked then."""
    said = " ".join(str(error).split())
    if "No response body" in said and filesystem is not None:
        other = listing_failure(uri, filesystem)
        said = said if other is None else " ".join(str(other).split())
    return re.sub(r" \(Request ID: \w+\)", "", said)[:_MESSAGE_CHARACTERS]


@lru_cache(maxsize=64)
def _s3(bucket: str, options: tuple[tuple[str, str], ...]) -> fs.S3FileSystem:
    given = dict(options)
    region = given.get("region")
    elsewhere = "endpoint_override" in given or _first(os.environ, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if region is None and not elsewhere and not _first(os.environ, "AWS_REGION", "AWS_DEFAULT_REGION"):
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region,
        endpoint_override=given.get("endpoint_override"),
        scheme=given.get("scheme"),
        connect_timeout=_CONNECT_S,
        request_timeout=_SILENCE_S,
        # Small results are one PUT then; larger ones a multipart upload, which is completed whole or not at all.
        allow_delayed_open=True,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=int(_first(os.environ, "AWS_MAX_ATTEMPTS") or _ATTEMPTS)),
    )


@lru_cache(maxsize=64)
def _gs(options: tuple[tuple[str, str], ...]) -> fs.GcsFileSystem:
    return fs.GcsFileSystem(**dict(options), retry_time_limit=_RETRY_GCS)


@lru_cache(maxsize=64)
def _az(account: str | None, options: tuple[tuple[str, str], ...]) -> fs.AzureFileSystem:
    account = account or _first(os.environ, "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
    if account is None:
        raise UsageError("az://: of which account? Set AZURE_STORAGE_ACCOUNT_NAME, or give abfss://CONTAINER@ACCOUNT.../KEY")
    keys: dict[str, Any] = {
        "account_key": _first(os.environ, "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
        "sas_token": _first(os.environ, "AZURE_STORAGE_SAS_TOKEN"),
    }
    if keys["account_key"]:
        keys["sas_token"] = None
    return fs.AzureFileSystem(account, **keys, **dict(options))


def _first(values: Mapping[str, str], *names: str) -> str | None:
    return next((values[name] for name in names if values.get(name)), None)
