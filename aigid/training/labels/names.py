"""The names of generators that the rows of manifests have, each with a code of its own."""

from collections.abc import Sequence

from aigid.records import DEFAULT_LABELS

MOST_NAMES = 10_000
"""More different values than this are no names of generators."""

_USUAL_SPELLINGS = {name.casefold(): name for name in DEFAULT_LABELS}


class GeneratorNames:
    """Codes from 1 on for names of generators; names that differ in case only are the same."""

    def __init__(self, labels: Sequence[str] | None = None) -> None:
        """Give the generators among `labels`, "real" first, their index there as code."""
        self._spellings = list((labels or ("",))[1:])
        self._labels = len(self._spellings)
        self._codes = {name: code for code, name in enumerate(self._spellings, 1)}
        for name, code in list(self._codes.items()):
            self._codes.setdefault(name.casefold(), code)

    def __len__(self) -> int:
        return len(self._spellings)

    def is_label(self, name: str) -> bool:
        """Return whether a name is that of a generator among the labels."""
        return 0 < self._find(name) <= self._labels

    def code(self, name: str) -> int:
        """Return the code of a name."""
        code = self._find(name)
        if not code:
            self._spellings.append(name)
            code = self._codes[name.casefold()] = len(self._spellings)
        if code > self._labels:
            # The same spelling, whatever the order of the files is.
            spelling = min(self._spellings[code - 1], name)
            self._spellings[code - 1] = _USUAL_SPELLINGS.get(name.casefold(), spelling)
        return code

    def name(self, code: int) -> str:
        """Return the name that has a code."""
        return self._spellings[code - 1]

    def _find(self, name: str) -> int:
        return self._codes.get(name) or self._codes.get(name.casefold(), 0)


def is_name(text: str) -> bool:
    """Return whether a text can be a generator's name: short, printable, and no URL."""
    return 0 < len(text) <= 100 and text.isprintable() and "://" not in text
