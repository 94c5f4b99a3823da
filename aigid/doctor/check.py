"""A line of the diagnosis."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    """All is well, or a fact."""
    HINT = "hint"
    """Scans run; something is missing, or could be better."""
    PROBLEM = "problem"
    """Scans cannot run, or not all of them."""


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, and what to do about it where it is not well."""

    name: str
    state: State
    text: str
    remedy: str | None = None


def ok(name: str, text: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name, State.OK, text)


def hint(name: str, text: str, remedy: str) -> Check:
    """Return a check that found something that could be better."""
    return Check(name, State.HINT, text, remedy)


def problem(name: str, text: str, remedy: str) -> Check:
    """Return a check that found what stops scans."""
    return Check(name, State.PROBLEM, text, remedy)
