"""The small closed sets and records that pass between the parts of a scan."""

import re
from dataclasses import dataclass
from enum import StrEnum

REAL, OTHER = "real", "other"
"""Names of sources: a photograph or drawing, and a generator that the model does not know."""

DEFAULT_LABELS = (REAL, "sd21", "sdxl", "sd3", "dalle3", "midjourney")
"""The classes of the paper, in the order of its data set's `Label_B`. A model may have others."""


def source_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of `source` for a model with these labels: "other" is always among them."""
    return labels if OTHER in labels else (*labels, OTHER)


class Verdict(StrEnum):
    """What `p_ai` says of an image in a mode."""

    AI = "ai"
    """AI-generated."""
    REAL = "real"
    """Not AI-generated."""
    UNSURE = "unsure"
    """Neither, with the certainty that the mode asks for."""


class Mode(StrEnum):
    """How certain a verdict is."""

    BEST_GUESS = "best-guess"
    """Each image is `ai` or `real`, whichever is likelier by the threshold."""
    BALANCED = "balanced"
    """At most 1 % of real images are `ai`, and at most 1 % of AI-generated ones are `real`."""
    HIGH_PRECISION = "high-precision"
    """At most 0.1 % of each."""

    @property
    def rate(self) -> float | None:
        """The share of real images that may be `ai`, and of AI-generated ones that may be `real`.

        None where it is not limited.
        """
        return _MODE_RATES.get(self)


_MODE_RATES = {Mode.BALANCED: 0.01, Mode.HIGH_PRECISION: 0.001}


class ErrorCode(StrEnum):
    """The reason why an image could not be scored."""

    EMPTY = "empty"
    """The image is null, or has zero bytes or zero pixels."""
    MISSING = "missing"
    """There is no such file, object or host."""
    FORBIDDEN = "forbidden"
    """A policy or a permission refuses access."""
    TIMEOUT = "timeout"
    """A web server did not deliver in three attempts, or a store did not deliver the object."""
    TOO_LARGE = "too_large"
    """The image has more than 64 MiB or 100 million pixels, or decoding it costs too much."""
    UNDECODABLE = "undecodable"
    """The data is not an image, or is damaged or truncated."""


_QUOTED_CHARACTERS = 200


def printable(text: str) -> str:
    """Return an untrusted path or URI as part of one line.

    It is short, and has neither secrets nor control characters.
    """
    public = without_secrets(text)
    short = public if len(public) <= _QUOTED_CHARACTERS else f"{public[:_QUOTED_CHARACTERS]}..."
    return short if short.isprintable() else repr(short)


def escaped(text: str) -> str:
    r"""Return the text with control characters and broken code points as escapes, such as \x1b.

    File names, URLs and column names come from strangers: printed raw, they could move the cursor,
    colour the screen, or write a line that looks like one of ours.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def without_secrets(text: str) -> str:
    """Return a path or URI without what may be secret in it.

    In a URI, the user name and the password are left out, and a query is shown as "?...". A path
    may have any characters, and stays as it is.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    host, slash, path = rest.partition("/")
    user, _, address = host.rpartition("@")
    # In abfs://CONTAINER@ACCOUNT/KEY, what stands before the @ is not a user name.
    if not (scheme.lower() in ("abfs", "abfss") and ":" not in user):
        host = address
    rest = f"{host}{slash}{path}"
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    hidden = f"{rest[len(place)]}..." if len(place) < len(rest) else ""
    return f"{scheme}://{place}{hidden}"


@dataclass(frozen=True)
class RowError:
    """The error of an image that was not scored: a code for programs, one line for people."""

    code: ErrorCode
    detail: str


class RowFailure(Exception):  # noqa: N818 - carries a RowError to its row; it never ends a scan
    """Raised while one row is fetched or decoded, and turned into data by the caller."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.error = RowError(code, detail)
