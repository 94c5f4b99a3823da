"""The URIs of object stores and web servers, and their parts."""

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from aigid.errors import UsageError
from aigid.records import without_secrets

# As Hadoop and Google's tools call them.
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
STORE_SCHEMES = ("s3", "gs", "az", "abfs", "abfss", *_ALIASES, "hf")
WEB_SCHEMES = ("http", "https")
URI_SCHEMES = (*STORE_SCHEMES, *WEB_SCHEMES)
# What the query of an object store's URI may set, by Arrow's names.
_OPTIONS = {
    "s3": ("region", "endpoint_override", "scheme", "anonymous"),
    "gs": ("endpoint_override", "scheme", "anonymous"),
    "az": (
        "blob_storage_authority",
        "blob_storage_scheme",
        "dfs_storage_authority",
        "dfs_storage_scheme",
    ),
}
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/, or the host's IAM role",
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, "
        "or the host's service account"
    ),
    "az": (
        "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, `az login`, "
        "or the host's managed identity"
    ),
    "hub": "HF_TOKEN, or the login of `hf auth login`",
}
"""Where each kind of store looks for credentials."""

_AZURE_DOMAINS = ("dfs.core.windows.net", "blob.core.windows.net")
_ACCOUNT = re.compile(r"[\w-]+", re.ASCII)
_HOSTS = {
    "s3": re.compile(r"[\w.-]+", re.ASCII),
    "gs": re.compile(r"[\w.-]+", re.ASCII),
    "az": re.compile(r"[\w$-]+", re.ASCII),
    "web": re.compile(r"([^\s/@:\[\]]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?"),
}
# As huggingface_hub writes them. Only special revisions may have a slash.
_DATA_SET = re.compile(
    r"(?P<repository>\w[\w.-]*/\w[\w.-]*)"
    r"(?:@(?P<revision>refs/convert/[\w.-]+|refs/pr/\d+|[^/]+))?"
    r"(?:/(?P<key>.*))?",
    re.ASCII | re.DOTALL,
)
PARQUET_REVISION = "refs/convert/parquet"
"""The branch of a data set in which the hub keeps it as Parquet."""

_SPECIAL_REVISION = re.compile(r"refs/(convert/[\w.-]+|pr/\d+)", re.ASCII)


class MalformedUriError(UsageError):
    """A URI that cannot be opened as it is written; `reason` says why, and what to write."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{without_secrets(text)}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class StoreUri:
    """The parts of a URI of an object store, a web server or a data set of the hub.

    `root` is the text up to the bucket, as in "s3://bucket". `bucket` is the bucket or container;
    for the web the host with its port, and for the hub "datasets/OWNER/NAME@REVISION". `key` is the
    path below it: decoded, but for the web as it is in the URL, where a%2Fb and a/b may be two
    files. On the hub nothing is escaped. `account` is the storage account of an abfs:// or abfss://
    URI.
    """

    scheme: str
    root: str
    bucket: str
    key: str
    query: str = field(default="", repr=False)
    account: str | None = None

    @property
    def kind(self) -> str:
        """The kind of client that opens it: "s3", "gs", "az", "web" or "hub"."""
        return _kind(self.scheme)

    @property
    def path(self) -> str:
        """The path that Arrow's file systems take: BUCKET/KEY."""
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    @property
    def options(self) -> dict[str, str]:
        """The options that the query of an object store's URI sets."""
        return dict(parse_qsl(self.query))

    @property
    def text(self) -> str:
        """The URI as a user would write it."""
        key = self.key if self.kind in ("web", "hub") else _escaped(self.key)
        if self.kind == "hub" and not key:
            return self.root
        return f"{self.root}/{key}" + (f"?{self.query}" if self.query else "")

    @property
    def shown(self) -> str:
        """The URI for messages and results: without the query of a URL, which may be signed."""
        if self.kind == "web" and self.query:
            return f"{replace(self, query='').text}?..."
        return self.text

    def at(self, path: str) -> "StoreUri":
        """Return the URI of another of Arrow's paths in the same store."""
        inside = f"{path}/".startswith(f"{self.bucket}/")
        key = path.removeprefix(self.bucket).removeprefix("/") if inside else ""
        return replace(self, key=key if self.kind == "web" else key.rstrip("/"))


def parse_store_uri(text: str) -> StoreUri:
    """Split a URI, whose scheme is one of `URI_SCHEMES`, into its parts.

    Raises MalformedUriError for a malformed URI and an unknown option in the query, and UsageError
    for credentials in the URI. Its message never repeats the credentials.
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise MalformedUriError(text, f"not a location that can be opened: {error}") from error
    scheme, bucket, account = parts.scheme.lower(), parts.netloc, None
    if scheme == "hf":
        return _parse_hub_uri(text)
    scheme = _ALIASES.get(scheme, scheme)
    kind = _kind(scheme)
    if scheme in ("abfs", "abfss"):
        bucket, _, domain = parts.netloc.partition("@")
        account = _account(text, domain)
    elif "@" in parts.netloc:
        hint = f"; aigid finds them in {CREDENTIALS[kind]}" if kind in CREDENTIALS else ""
        raise UsageError(f"{scheme}://...@: credentials do not belong in a URI{hint}")
    if not _HOSTS[kind].fullmatch(bucket) or account == "":
        form = f"{scheme}://{_form(scheme)}"
        raise MalformedUriError(text, f"not a location that can be opened: give {form}")
    _check_characters(text, kind)
    _check_options(text, parts.query, kind)
    key = parts.path.removeprefix("/") if kind == "web" else _key(text, parts.path)
    return StoreUri(scheme, f"{scheme}://{parts.netloc}", bucket, key, parts.query, account)


def split_revision(bucket: str) -> tuple[str, str]:
    """Return OWNER/NAME and the revision of a hub URI's `bucket`."""
    repository, _, revision = bucket.removeprefix("datasets/").partition("@")
    return repository, unquote(revision) or "main"


def _parse_hub_uri(text: str) -> StoreUri:
    """Split hf://datasets/OWNER/NAME[@REVISION][/KEY], in which no character is escaped.

    The hub has models, spaces and buckets as well. A name without "datasets/" means a model there,
    but much rather a forgotten word, so none of these is opened.
    """
    kind, _, rest = text.partition("://")[2].rstrip("/").partition("/")
    match = _DATA_SET.fullmatch(rest)
    if kind != "datasets" or match is None:
        form = "hf://datasets/OWNER/NAME or hf://datasets/OWNER/NAME@REVISION/PATH"
        raise MalformedUriError(text, f"not a data set of the Hugging Face Hub: give {form}")
    key = match["key"] or ""
    if re.search(r"\?[\w.-]+=", key):
        raise MalformedUriError(text, "the hub knows no queries: leave out what follows the ?")
    if key and any(part in ("", ".", "..") for part in key.split("/")):
        raise MalformedUriError(text, "a path with an empty part, . or .. cannot be opened")
    bucket = f"datasets/{match['repository']}"
    revision = unquote(match["revision"] or "main")
    if revision != "main":
        special = _SPECIAL_REVISION.fullmatch(revision)
        bucket += f"@{revision if special else quote(revision, safe='')}"
    return StoreUri("hf", f"hf://{bucket}", bucket, key)


def _account(text: str, domain: str) -> str:
    """Return the storage account of a domain; "" for what is none.

    PyArrow takes the account alone. It ends the process for one with a port.
    """
    account, _, rest = domain.partition(".")
    if rest and rest not in _AZURE_DOMAINS:
        raise MalformedUriError(
            text,
            f"only {' and '.join(_AZURE_DOMAINS)} are known: name another server with "
            "?blob_storage_authority=AUTHORITY&dfs_storage_authority=AUTHORITY",
        )
    return account if _ACCOUNT.fullmatch(account) else ""


def _check_characters(text: str, kind: str) -> None:
    """Raise an error for characters that splitting a URI loses: another object would be meant."""
    lost = {"#": "%23", "\t": "%09", "\n": "%0A", "\r": "%0D"}
    found = next((character for character in lost if character in text), None)
    if found:
        shown = found if found.isprintable() else repr(found)
        raise MalformedUriError(text, f"write a {shown} in a name as {lost[found]} in a URI")
    if kind != "web" and text.endswith("?"):
        raise MalformedUriError(text, "write a ? in a name as %3F in a URI")


def _key(text: str, path: str) -> str:
    """Return the decoded key of an object or a folder.

    Clients resolve parts like ".." as in a path, and then ask for another object.
    """
    try:
        key = unquote(path, errors="strict").removeprefix("/").rstrip("/")
    except UnicodeDecodeError as error:
        raise MalformedUriError(text, "the name is not UTF-8") from error
    if key and any(part in ("", ".", "..") for part in key.split("/")):
        raise MalformedUriError(text, "a key with an empty part, . or .. cannot be opened")
    return key


def _escaped(key: str) -> str:
    """Escape what would be read as an escape, a query or a fragment, and what is not printable."""
    return "".join(
        quote(character) if character in "%?#" or not character.isprintable() else character
        for character in key
    )


def _check_options(text: str, query: str, kind: str) -> None:
    if kind not in _OPTIONS:
        return
    known = _OPTIONS[kind]
    options = parse_qsl(query, keep_blank_values=True)
    if any(name not in known or not value for name, value in options):
        raise MalformedUriError(
            text,
            f"the options after ? are {', '.join(known)}; write a ? in a name as %3F in a URI",
        )


def _kind(scheme: str) -> str:
    if scheme in WEB_SCHEMES:
        return "web"
    if scheme == "hf":
        return "hub"
    return "az" if scheme in ("abfs", "abfss") else scheme


def _form(scheme: str) -> str:
    if scheme in ("abfs", "abfss"):
        return "CONTAINER@ACCOUNT.dfs.core.windows.net/KEY"
    return "HOST/PATH" if scheme in WEB_SCHEMES else "BUCKET/KEY"
