"""URIs of object stores and web servers, taken apart."""

import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from aigid.errors import UsageError
from aigid.storage.http import WEB_SCHEMES

STORE_SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
URI_SCHEMES = (*STORE_SCHEMES, *WEB_SCHEMES)
# What may stand behind the ? of a URI, by the names that Arrow gives it.
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
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or the machine's service account",
    "az": "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, `az login`, or the machine's identity",
}
"""Where each kind of store's credentials are looked for."""

_HOSTS = {
    "s3": re.compile(r"[\w.-]+", re.ASCII),
    "gs": re.compile(r"[\w.-]+", re.ASCII),
    "az": re.compile(r"[\w$-]+", re.ASCII),
    "web": re.compile(r"([^\s/@:\[\]]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?"),
}


@dataclass(frozen=True)
class StoreUri:
    """A URI, taken apart: `root` is its text up to the bucket (of the web, the host), `key` what is below that."""

    scheme: str
    root: str
    bucket: str
    key: str
    query: str = ""
    account: str | None = None

    @property
    def kind(self) -> str:
        """Which client reaches it: "s3", "gs", "az" or "web"."""
        return _kind(self.scheme)

    @property
    def path(self) -> str:
        """Where Arrow's clients find it."""
        return f"{self.bucket}/{self.key}".rstrip("/")

    @property
    def options(self) -> dict[str, str]:
        """What its query says, of an object store."""
        return dict(parse_qsl(self.query))

    @property
    def text(self) -> str:
        """The URI, as a user would write it."""
        # Signs that would be read as something else, and what no line of text should hold.
        shown = "".join(
            quote(sign) if sign in "%?#" or not sign.isprintable() else sign for sign in self.key
        )
        return f"{self.root}/{shown}" + (f"?{self.query}" if self.query else "")

    def at(self, path: str) -> "StoreUri":
        """Another of Arrow's paths in the same store."""
        return replace(self, key=path.removeprefix(self.bucket).strip("/"))


def parse_store_uri(text: str) -> StoreUri:
    """Take a URI of one of `URI_SCHEMES` apart; raises UsageError where it cannot be one, or holds credentials."""
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise UsageError(f"{text}: not a location that can be opened: {error}") from error
    scheme, bucket, account = parts.scheme.lower(), parts.netloc, None
    kind = _kind(scheme)
    if scheme in ("abfs", "abfss"):
        bucket, _, domain = parts.netloc.partition("@")
        account = domain.split(".")[0]
    elif "@" in parts.netloc:
        places = f"; they are found in {CREDENTIALS[kind]}" if kind in CREDENTIALS else ""
        raise UsageError(f"{scheme}://...@: credentials do not belong in a URI{places}")
    if not _HOSTS[kind].fullmatch(bucket) or account == "":
        raise UsageError(
            f"{text}: not a location that can be opened: give {scheme}://{_form(scheme)}"
        )
    if parts.fragment or text.endswith("#"):
        raise UsageError(f"{text}: in a URI, write %23 for a # in a name")
    uri = StoreUri(
        scheme,
        f"{scheme}://{parts.netloc}",
        bucket,
        unquote(parts.path).strip("/"),
        parts.query,
        account,
    )
    options = parse_qsl(parts.query, keep_blank_values=True)
    if kind in _OPTIONS and any(name not in _OPTIONS[kind] or not value for name, value in options):
        raise UsageError(
            f"{text}: behind ? are {', '.join(_OPTIONS[kind])}; in a URI, write %3F for a ? in a name"
        )
    return uri


def _kind(scheme: str) -> str:
    return "web" if scheme in WEB_SCHEMES else "az" if scheme in ("abfs", "abfss") else scheme


def _form(scheme: str) -> str:
    if scheme in ("abfs", "abfss"):
        return "CONTAINER@ACCOUNT.dfs.core.windows.net/KEY"
    return "HOST/PATH" if scheme in WEB_SCHEMES else "BUCKET/KEY"
