"""What a report counts over all rows: scores, verdicts, sources, evidence and errors."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aigid.report.rows import EVIDENCE, FAILED, VERDICTS, CodedColumn, ResultRows

SCORE_BINS = 1000
# Names that strangers wrote. What comes after so many of them is counted together.
_MOST_NAMES = 10_000
OTHERS = "(others)"


@dataclass
class ScoreCounts:
    """Counts of scored rows by score, in SCORE_BINS bins from 0 to 1, and of rows by outcome.

    `outcomes` has rows by verdict (the last for rows with an error) and evidence (the last for rows
    without an answer).
    """

    rows: int = 0
    scores: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(SCORE_BINS, np.int64))
    outcomes: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((len(VERDICTS) + 1, len(EVIDENCE) + 1), np.int64)
    )
    sources: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, rows: ResultRows) -> None:
        """Count the rows of a result file."""
        self.rows += len(rows)
        p_ai = rows.p_ai[~np.isnan(rows.p_ai)]
        bins = np.minimum((p_ai * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
        self.scores += np.bincount(bins, minlength=SCORE_BINS)
        evidence = rows.evidence if rows.evidence is not None else np.full(len(rows), FAILED)
        # FAILED is -1: the last row and the last column.
        np.add.at(self.outcomes, (rows.verdict, evidence), 1)
        self.sources.update(_counted(rows.source))
        self.errors.update(_counted(CodedColumn.of(rows.table.column("error"))))

    @property
    def scored(self) -> int:
        """The rows with a score."""
        return int(self.scores.sum())

    def verdict(self, name: str) -> int:
        """Return the rows with a verdict."""
        return int(self.outcomes[VERDICTS.index(name)].sum())

    def evidence(self, name: str) -> int:
        """Return the rows with an evidence."""
        return int(self.outcomes[:, EVIDENCE.index(name)].sum())

    def scored_from(self, low: float, high: float = 2.0) -> int:
        """Return the rows with a score of `low` or more and less than `high`, to 0.001."""
        first, last = round(low * SCORE_BINS), min(round(high * SCORE_BINS), SCORE_BINS)
        return int(self.scores[first:last].sum())


@dataclass
class FindingCounts:
    """Counts of rows by the kinds of findings in `evidence_detail`."""

    kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By kind, what it says, and its strength."""
    makers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By what the finding says, and the generator or device that it names."""
    strengths: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By what the strongest finding says, and its strength."""
    unreadable: int = 0

    def add(self, rows: ResultRows) -> None:
        """Count the findings of rows; a kind counts once in a row."""
        self.unreadable += rows.unreadable
        for findings in rows.findings.values():
            for kind in {(one.kind, one.says, one.strength) for one in findings}:
                known = kind in self.kinds or len(self.kinds) < _MOST_NAMES
                self.kinds[kind if known else (OTHERS, *kind[1:])] += 1
            for maker in {(one.says, one.source) for one in findings if one.source}:
                known = maker in self.makers or len(self.makers) < _MOST_NAMES
                self.makers[maker if known else (maker[0], OTHERS)] += 1
            telling = [one for one in findings if one.says != "none"]
            if telling:
                best = min(telling, key=lambda one: one.rank)
                self.strengths[best.says, best.strength] += 1


def _counted(column: CodedColumn) -> dict[str, int]:
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.names))
    found: Counter[str] = Counter()
    for name, count in zip(column.names, counts.tolist(), strict=True):
        if count:
            found[name] += count
    return found
