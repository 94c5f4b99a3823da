"""What response headers say: how long to wait, and that an owner opts out."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_OPT_OUT = frozenset(("noai", "noimageai"))
# Rules of X-Robots-Tag that have a value after a colon. All other words there are user agents.
_WITH_VALUE = frozenset(
    ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")
)


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait; None without a valid one.

    It has seconds or a date: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - datetime.now(UTC)).total_seconds(), 0.0)


def opt_out_of(robots_tags: Iterable[str], user_agent: str) -> str | None:
    """Return the rule by which X-Robots-Tag headers opt out of use by AI: noai or noimageai.

    A rule after the name of a user agent, as in "otherbot: noai", is for that agent alone, which
    may be any word of ours, or `*`. None where no rule is for us.
    """
    ours = {"*", "aigid", *re.findall(r"[\w.-]+", user_agent.lower())}
    for tag in robots_tags:
        is_for_us = True
        for part in tag.lower().split(","):
            head, colon, rest = part.partition(":")
            if colon and head.strip() not in _WITH_VALUE:
                is_for_us, part = head.strip() in ours, rest
            if is_for_us and part.strip() in _OPT_OUT:
                return part.strip()
    return None
