"""Readers that run when they are named: built in, or plug-ins of other packages.

A plug-in is an entry point of the group `aigid.evidence`, whose name is the reader's.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from itertools import islice
from threading import Lock
from typing import Any

from aigid.errors import UsageError
from aigid.evidence.findings import Finding, Says, Strength
from aigid.evidence.json_text import detail
from aigid.evidence.limits import MOST_READER_FINDINGS, MOST_READER_PIXELS
from aigid.pixels import DecodeLimits, whole_image
from aigid.records import RowFailure

ENTRY_POINTS = "aigid.evidence"
"""The group of the entry points of plug-ins."""

_BUILT_IN = {
    "dwt-dct": "aigid.evidence.dwt_dct",
    "stealth-text": "aigid.evidence.stealth_text",
}
_MOST_DETAILS = 32
_PIXEL_LIMITS = DecodeLimits(max_pixels=MOST_READER_PIXELS)
_log = logging.getLogger(__name__)


class Takes(StrEnum):
    """What a reader is called with."""

    FILE = "file"
    """The bytes of the image file."""
    PIXELS = "pixels"
    """A PIL image: decoded in full, in the file's own mode, and not turned upright."""


class Cost(StrEnum):
    """What a reader costs for an image of a megapixel, on one core. The cheapest run first."""

    LOW = "low"
    """Less than a millisecond."""
    MEDIUM = "medium"
    """About as much as decoding the image."""
    HIGH = "high"
    """More, as with a neural network."""


@dataclass(frozen=True)
class Reader:
    """A reader of evidence.

    `read` takes what `takes` says, and returns or yields findings. Several threads may call it.
    `name` is the entry point's.
    """

    name: str
    takes: Takes
    cost: Cost
    read: Callable[[Any], Iterable[Finding]]


class Readers:
    """Readers that were loaded by their names. What one of them raises is logged, and not raised.

    A failure is logged when a reader has failed once, ten times, a hundred times, and so on.
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = sorted(readers, key=lambda reader: list(Cost).index(reader.cost))
        self._failures = dict.fromkeys((reader.name for reader in readers), 0)
        self._lock = Lock()

    def read(self, data: bytes) -> Iterator[Finding]:
        """Yield the findings of all readers. An image is decoded once, if one of them needs that.

        An image that cannot be decoded, or is too large for it, has no findings of its pixels.
        """
        content: dict[Takes, object] = {Takes.FILE: data}
        for reader in self._readers:
            if reader.takes is Takes.PIXELS and Takes.PIXELS not in content:
                content[Takes.PIXELS] = _decoded(data)
            if content[reader.takes] is not None:
                yield from self._run(reader, content[reader.takes])

    def _run(self, reader: Reader, content: object) -> list[Finding]:
        try:
            found = islice(reader.read(content), MOST_READER_FINDINGS)
            return [_checked(finding) for finding in found]
        except (Exception, SystemExit) as error:  # noqa: BLE001 - others' code may raise anything
            self._log_failure(reader.name, error)
            return []

    def _log_failure(self, name: str, error: BaseException) -> None:
        with self._lock:
            self._failures[name] += 1
            count = self._failures[name]
        if str(count).rstrip("0") == "1":
            text = f"{type(error).__name__}: {error}"
            _log.warning("the reader %s has failed %d times: %s", name, count, text[:500])


def load_readers(names: Iterable[str]) -> Readers:
    """Return the readers of these names.

    Raises UsageError for a name that no reader or more than one has, and for a plug-in that cannot
    be loaded or is no reader.
    """
    return Readers([_load(name) for name in dict.fromkeys(names)])


def _load(name: str) -> Reader:
    installed = list(entry_points(group=ENTRY_POINTS))
    plug_ins = {entry.value: entry for entry in installed if entry.name == name}
    built_in = _BUILT_IN.get(name)
    if len(plug_ins) + (built_in is not None) > 1:
        places = ", ".join(filter(None, (built_in, *plug_ins)))
        raise UsageError(f"`readers` {name}: several readers have this name: {places}")
    if built_in is not None:
        found: object = import_module(built_in).READER
    elif plug_ins:
        found = _load_plug_in(*plug_ins.values())
    else:
        known = ", ".join(sorted({*_BUILT_IN, *(entry.name for entry in installed)}))
        raise UsageError(f"`readers` {name}: no such reader; there are {known}")
    return _checked_reader(name, found)


def _load_plug_in(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:
        message = f"`readers` {entry.name}: {entry.value} cannot be loaded: "
        raise UsageError(f"{message}{type(error).__name__}: {error}") from error


def _checked_reader(name: str, found: object) -> Reader:
    wrong = f"`readers` {name}: "
    if not isinstance(found, Reader):
        kind = type(found).__name__
        raise UsageError(f"{wrong}its entry point is not an aigid.evidence.Reader: got {kind}")
    if found.name != name:
        raise UsageError(f"{wrong}the reader calls itself {found.name!r}")
    if not isinstance(found.takes, Takes) or not isinstance(found.cost, Cost):
        raise UsageError(f"{wrong}`takes` must be a Takes, and `cost` a Cost")
    if not callable(found.read):
        raise UsageError(f"{wrong}`read` is not a function")
    return found


def _decoded(data: bytes) -> object:
    try:
        return whole_image(data, _PIXEL_LIMITS)
    except RowFailure:
        return None


def _checked(finding: object) -> Finding:
    """Return a finding within the limits. Raises ValueError or TypeError for what is none."""
    if not isinstance(finding, Finding):
        raise TypeError(f"it gave a {type(finding).__name__}, which is not a Finding")
    details = {
        detail(name)[:60]: detail(value)
        for name, value in islice(dict(finding.details).items(), _MOST_DETAILS)
    }
    return Finding(
        kind=detail(finding.kind)[:60],
        says=Says(finding.says),
        strength=Strength(finding.strength),
        found_in=detail(finding.found_in)[:100],
        source=detail(finding.source)[:200],
        details=details,
    )
