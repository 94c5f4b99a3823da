"""Rows that are right, by a kept column that says real or AI-generated."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from aigid.errors import UsageError
from aigid.report.rows import FAILED, VERDICTS, CodedColumn, ResultRows

_AI, _REAL, _UNSURE = (VERDICTS.index(name) for name in ("ai", "real", "unsure"))
_WORDS = {"1": _AI, "true": _AI, "ai": _AI, "0": _REAL, "false": _REAL, "real": _REAL}
_NOTHING = ("", "-1", "unknown", "none")


@dataclass
class TruthCounts:
    """Rows with a label and a verdict: all, those that are right, and by source.

    `unsure` has the labelled rows without a decision; they are not among `right`.
    """

    column: str
    rows: int = 0
    right: int = 0
    unsure: int = 0
    false_ai: int = 0
    missed_ai: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    right_sources: Counter[str] = field(default_factory=Counter)

    def add(self, rows: ResultRows) -> None:
        """Count the rows of a result file. Raises UsageError for a value that is no label."""
        labels = CodedColumn.of(rows.table.column(self.column))
        meanings = [self._meaning(name) for name in labels.names]
        truth = np.array([*meanings, FAILED], np.int32)[labels.codes]
        known = (truth != FAILED) & (rows.verdict != FAILED)
        right = known & (truth == rows.verdict)
        self.rows += int(known.sum())
        self.right += int(right.sum())
        self.unsure += int((known & (rows.verdict == _UNSURE)).sum())
        self.false_ai += int((known & (truth == _REAL) & (rows.verdict == _AI)).sum())
        self.missed_ai += int((known & (truth == _AI) & (rows.verdict == _REAL)).sum())
        for code, name in enumerate(rows.source.names):
            mine = rows.source.codes == code
            self.sources[name] += int((mine & known).sum())
            self.right_sources[name] += int((mine & right).sum())

    def _meaning(self, text: str) -> int:
        word = text.strip().lower().removesuffix(".0")
        if word in _WORDS:
            return _WORDS[word]
        if word in _NOTHING:
            return FAILED
        raise UsageError(
            f"`label_column` {self.column}: {text!r} is neither real (0, false, real) nor "
            "AI-generated (1, true, ai)"
        )
