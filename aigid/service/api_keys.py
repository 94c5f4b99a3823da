"""The keys that clients of the service send."""

import hmac
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers

from aigid.errors import UsageError

SHORTEST_KEY = 16


def read_api_keys(path: Path) -> frozenset[str]:
    """Return the keys in a file: one a line; empty lines and lines that begin with # are left out.

    Raises UsageError for a file without keys, and for keys that are short, not ASCII, or hold
    blanks.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`api_key_file` {path}: cannot be read as text: {error}") from error
    keys = set()
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if len(key) < SHORTEST_KEY or not key.isascii() or any(map(str.isspace, key)):
            # The key itself is a secret.
            raise UsageError(
                f"`api_key_file` {path}, line {number}: a key has {SHORTEST_KEY} characters or "
                "more, in ASCII and without blanks: make one with: openssl rand -hex 32"
            )
        keys.add(key)
    if not keys:
        raise UsageError(
            f"`api_key_file` {path} has no key: write one a line, as of: openssl rand -hex 32"
        )
    return frozenset(keys)


def has_key(headers: Headers, keys: Collection[str]) -> bool:
    """Tell whether a request's headers have one of the keys, in a time that tells nothing of them.

    A client sends `Authorization: Bearer KEY` or `X-API-Key: KEY`.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    sent = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    # Hashes have one length, whatever the key's.
    hashed = sha256(sent.encode()).digest()
    matches = [hmac.compare_digest(hashed, sha256(key.encode()).digest()) for key in keys]
    return any(matches)
