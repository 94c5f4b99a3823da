"""C2PA manifests, with the extra `evidence`. Nothing is fetched."""

import json
import re
import ssl
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from aigid.errors import UsageError
from aigid.evidence.c2pa_claims import Claims, read_claims
from aigid.evidence.containers import name_media_type
from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.json_text import detail
from aigid.evidence.jumbf import why_too_costly
from aigid.evidence.limits import MOST_C2PA_BYTES
from aigid.evidence.metadata import Metadata
from aigid.extras import install_command

_FOUND_IN = "C2PA manifest"
_CERTIFICATE = re.compile(
    "-----BEGIN CERTIFICATE-----.*?(?:-----END CERTIFICATE-----|$)", re.DOTALL
)
_NO_MANIFEST = "ManifestNotFound"
# Names of what the state of a manifest is, by what the reader calls it.
_STATES = {"Trusted": "valid", "Valid": "valid", "Invalid": "damaged"}


class UnreadableError(Exception):
    """The manifest store cannot be read. The text says why."""


def read_trust_list(path: Path) -> str:
    """Return the PEM certificates of a file; raises UsageError where one is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`trust_list` {path}: cannot be read: {error}") from error
    return check_trust_anchors(text, f"`trust_list` {path}")


def check_trust_anchors(text: str, where: str = "`trust_anchors`") -> str:
    """Return the PEM certificates in a text; raises UsageError where there is none, or one is not.

    `where` begins the error.
    """
    certificates = _CERTIFICATE.findall(text)
    if not certificates:
        raise UsageError(f"{where}: no PEM certificate in it")
    for number, certificate in enumerate(certificates, 1):
        # The C2PA reader would leave it out, and say nothing.
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError) as error:
            raise UsageError(f"{where}: certificate {number} is damaged") from error
    return "\n".join(certificates)


def read_c2pa(data: bytes, metadata: Metadata, trust_anchors: str) -> Iterator[Finding]:
    """Yield the findings of the embedded manifests, and of the address of a remote one."""
    for text in metadata.named("provenance"):
        if text.text.startswith(("http://", "https://")):
            details = {"state": "remote, not fetched", "url": detail(text.text)}
            yield _about("c2pa-remote", text.found_in, details)
            break
    if not metadata.c2pa_bytes:
        return
    limit = _limit(metadata)
    if limit:
        yield _about("c2pa", _FOUND_IN, {"state": "unread", "reason": limit})
        return
    try:
        store = read_store(data, trust_anchors)
    except ModuleNotFoundError as error:
        reason = f"reading it needs {error.name}: {install_command('evidence')}"
        yield _about("c2pa", _FOUND_IN, {"state": "unread", "reason": reason})
    except UnreadableError as error:
        if name_media_type(data) in _EXACT_TYPES or _NO_MANIFEST not in str(error):
            yield _about("c2pa", _FOUND_IN, {"state": "unreadable", "reason": detail(str(error))})
    else:
        yield from _findings(store)


def _limit(metadata: Metadata) -> str:
    """Return which limit the manifest store is over, if it is over one."""
    if metadata.c2pa_bytes > MOST_C2PA_BYTES:
        return f"more than {MOST_C2PA_BYTES >> 20} MiB"
    return why_too_costly(b"".join(metadata.c2pa))


# In other containers the bytes of a manifest are searched for, and may mean something else.
_EXACT_TYPES = ("image/jpeg", "image/png", "image/webp")


def read_store(data: bytes, trust_anchors: str = "") -> dict[str, Any]:
    """Return the manifest store as the reader's JSON. A remote manifest is never fetched.

    Raises UnreadableError, and ModuleNotFoundError without the extra `evidence`.
    """
    from c2pa import C2paError, Context, Reader

    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    if trust_anchors:
        settings["trust"] = {"user_anchors": trust_anchors}
    try:
        with (
            Context.from_dict(settings) as context,
            Reader(name_media_type(data), BytesIO(data), context=context) as reader,
        ):
            store = json.loads(reader.json())
    except (C2paError, ValueError, RecursionError) as error:
        raise UnreadableError(str(error)) from error
    if not isinstance(store, dict):
        raise UnreadableError("the manifest store is not a JSON object")
    return store


def _findings(store: dict[str, Any]) -> Iterator[Finding]:
    state = _STATES.get(str(store.get("validation_state")), "damaged")
    trusted = store.get("validation_state") == "Trusted"
    claims = read_claims(store)
    strength = Strength.METADATA
    if state == "valid":
        strength = Strength.SIGNED_TRUSTED if trusted else Strength.SIGNED_UNTRUSTED
    yield Finding(
        "c2pa",
        _says(claims, state),
        strength,
        _FOUND_IN,
        source=claims.source,
        details={"state": state, "trusted": str(trusted).lower(), **claims.details()},
    )
    for title, codes in claims.damaged_ingredients[:8]:
        details = {"ingredient": title, "failures": detail(", ".join(codes))}
        yield _about("c2pa-ingredient-damaged", "C2PA ingredient", details)


def _says(claims: Claims, state: str) -> Says:
    """A damaged manifest can be anybody's: it counts as a label that says `ai`, or as nothing."""
    if state == "damaged" and claims.says is not Says.AI:
        return Says.NONE
    return claims.says


def _about(kind: str, found_in: str, details: dict[str, str]) -> Finding:
    return Finding(kind, Says.NONE, Strength.METADATA, found_in, details=details)
