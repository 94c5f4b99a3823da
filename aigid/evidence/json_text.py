"""JSON that strangers wrote: bounded before it is parsed."""

import json
import re
from typing import Any

from aigid.evidence.limits import MOST_DEPTH, MOST_DETAIL_CHARACTERS

# The end is optional: a text without it is read once, not once for each quotation mark.
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[{]+|[\]}]+")


def count_marks(text: str) -> int:
    """Return the number of characters that parsing JSON is the slower for, the more there are."""
    return sum(text.count(mark) for mark in '{[,"\\')


def parse_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object of a text; None where it is none, is damaged or is nested deeply."""
    text = text.strip("\ufeff\0 \t\r\n")
    if not text.startswith("{") or _depth(text) > MOST_DEPTH:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _depth(text: str) -> int:
    """Return how deeply brackets nest, those in strings left out."""
    depth = deepest = 0
    for brackets in _BRACKETS.findall(_STRINGS.sub("", text)):
        depth += len(brackets) if brackets[0] in "[{" else -len(brackets)
        deepest = max(deepest, depth)
    return deepest


def detail(value: object) -> str:
    """Return a value as a short text; empty for objects, lists and null."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    try:
        return str(value).strip()[:MOST_DETAIL_CHARACTERS]
    except ValueError:
        # Python refuses to print integers of more than 4,300 digits.
        return ""


def details_of(values: dict[str, Any], **names: tuple[str, ...]) -> dict[str, str]:
    """Return details by name: each from the first of its keys that holds a value."""
    found = {
        name: next(filter(None, (detail(values.get(key)) for key in keys)), "")
        for name, keys in names.items()
    }
    return {name: text for name, text in found.items() if text}
