"""Paths in braces, as WebDataset and shells write them: `{000..099}.tar`, `{train,test}.csv`."""

import re
from collections.abc import Iterator, Sequence

from aigid.errors import UsageError
from aigid.storage import WEB_SCHEMES, exists, locate

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_MOST_PATHS = 1_000_000


def expand_braces(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the paths that these stand for, in order.

    A path that exists as it is written stands for itself. Raises UsageError for more than a million
    paths, and as `exists` does.
    """
    found: list[str] = []
    for path in paths:
        if _BRACES.search(path) and not _exists(path):
            for one in _expand(path):
                if len(found) == _MOST_PATHS:
                    raise UsageError(f"{path}: stands for more than {_MOST_PATHS:,} paths")
                found.append(one)
        else:
            found.append(path)
    return tuple(found)


def _exists(path: str) -> bool:
    # In a URL braces are escaped.
    return path.partition("://")[0].lower() not in WEB_SCHEMES and exists(locate(path))


def _expand(path: str) -> Iterator[str]:
    braces = _BRACES.search(path)
    if braces is None:
        yield path
        return
    before, after = path[: braces.start()], path[braces.end() :]
    for part in _parts(*braces.groups()):
        yield from _expand(f"{before}{part}{after}")


def _parts(first: str | None, last: str | None, words: str | None) -> Iterator[str]:
    """Yield the words, or the numbers from first to last, with zeros in front as these have."""
    if first is None or last is None:
        yield from (words or "").split(",")
        return
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    start, stop = int(first), int(last)
    numbers = range(start, stop + 1) if start <= stop else range(start, stop - 1, -1)
    yield from (f"{number:0{width}}" for number in numbers)
