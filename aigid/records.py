"""The small closed sets and records that pass between the parts of a scan."""

from dataclasses import dataclass
from enum import StrEnum

SOURCES = ("real", "sd21", "sdxl", "sd3", "dalle3", "midjourney")
"""The classes in the order of `p_source`, of the data set's `Label_B` and of head B's logits."""

GENERATORS = SOURCES[1:]


class ErrorCode(StrEnum):
    """Why a manifest row could not be scored."""

    EMPTY = "empty"
    MISSING = "missing"
    FORBIDDEN = "forbidden"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    UNDECODABLE = "undecodable"


_SHOWN_CHARACTERS = 200


def shown(text: str) -> str:
    """A stranger's text as a part of one line: short, and without control characters."""
    short = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    return short if short.isprintable() else repr(short)


@dataclass(frozen=True)
class RowError:
    """A row that cannot be scored: a code for machines and one line for people."""

    code: ErrorCode
    detail: str


class RowFailure(Exception):  # noqa: N818 - carries a RowError to the row's record; it never ends a scan
    """Raised by fetching or decoding one row, caught right there, and turned into data."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        """Carry the code and one line for people."""
        super().__init__(f"{code}: {detail}")
        self.error = RowError(code, detail)


@dataclass(frozen=True)
class Detection:
    """What aigid says of one image-prompt pair; the probabilities are None where `error` is set."""

    p_ai: float | None
    is_ai: bool | None
    source: str | None
    p_source: tuple[float, ...] | None
    error: RowError | None = None
