"""The rows that galleries show, chosen while result files stream by."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aigid.report.findings import CONTRADICTION, STRENGTHS
from aigid.report.rows import EVIDENCE, VERDICTS, ResultRows

_SEED = 16
_AI, _REAL = VERDICTS.index("ai"), VERDICTS.index("real")
_SAYS_AI, _SAYS_CAMERA = EVIDENCE.index("ai"), EVIDENCE.index("camera")

Keys = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """A row for a gallery: its shard, and its position there."""

    shard: int
    position: int


class Best:
    """The `most` rows with the smallest keys. At a tie, chance decides, from a fixed seed.

    Of images with the same hash only the first is taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: list[tuple[float, float, int, Chosen]] = []

    def add(self, rows: ResultRows, keys: Keys, chance: Keys) -> None:
        """Consider the rows of a result file; those whose key is NaN are left out."""
        limit = self._found[-1][0] if len(self._found) == self._most else np.inf
        places = np.flatnonzero(keys <= limit)
        order = np.lexsort((chance[places], keys[places]))
        # Some of them may be the same image.
        for place in places[order[: 4 * self._most]].tolist():
            same = 0 if rows.hashes is None else int(rows.hashes[place])
            chosen = Chosen(rows.shard, place)
            self._found.append((float(keys[place]), float(chance[place]), same, chosen))
        self._found = _distinct(sorted(self._found, key=lambda one: one[:2]))[: self._most]

    @property
    def rows(self) -> list[Chosen]:
        """The rows, the best first."""
        return [chosen for *_, chosen in self._found]


def _distinct(
    found: list[tuple[float, float, int, Chosen]],
) -> list[tuple[float, float, int, Chosen]]:
    seen = set[int]()
    kept = []
    for one in found:
        if one[2] not in seen:
            kept.append(one)
        if one[2]:
            seen.add(one[2])
    return kept


class Galleries:
    """The galleries of a report. `middle` is the score at which a verdict is least certain."""

    def __init__(self, middle: float, most: int) -> None:
        self._middle, self._most = middle, most
        self.evidence, self.contradictions = Best(most), Best(most)
        self.ai, self.real, self.borderline = Best(most), Best(most), Best(most)
        self.sources: dict[str, Best] = {}

    def add(self, rows: ResultRows) -> None:
        """Consider the rows of a result file."""
        chance = np.random.default_rng([_SEED, rows.shard]).random(len(rows))
        p_ai = rows.p_ai.astype(np.float64)
        self.ai.add(rows, np.where(rows.verdict == _AI, -p_ai, np.nan), chance)
        self.real.add(rows, np.where(rows.verdict == _REAL, p_ai, np.nan), chance)
        self.borderline.add(rows, np.abs(p_ai - self._middle), chance)
        self._add_sources(rows, chance)
        if rows.evidence is not None:
            self._add_evidence(rows, rows.evidence, chance)

    def rows(self) -> list[Chosen]:
        """Return the rows of all galleries, each once."""
        named = (self.evidence, self.ai, self.real, self.borderline, self.contradictions)
        found = [row for best in (*named, *self.sources.values()) for row in best.rows]
        return list(dict.fromkeys(found))

    def _add_sources(self, rows: ResultRows, chance: Keys) -> None:
        for code, name in enumerate(rows.source.names):
            mine = rows.source.codes == code
            if mine.any():
                best = self.sources.setdefault(name, Best(self._most // 2))
                best.add(rows, np.where(mine, chance, np.nan), chance)

    def _add_evidence(
        self, rows: ResultRows, evidence: npt.NDArray[np.int32], chance: Keys
    ) -> None:
        says = (evidence >= 0) & (evidence != EVIDENCE.index("none"))
        # Of equally strong evidence, that of AI comes first, as in EVIDENCE.
        keys = np.where(says, _ranks(rows) * len(EVIDENCE) + evidence, np.nan)
        self.evidence.add(rows, keys, chance)
        self.contradictions.add(rows, _contradicting(rows, evidence), chance)


def _ranks(rows: ResultRows) -> Keys:
    """Return how hard the strongest finding of each row is to forge, 0 for the hardest."""
    ranks = np.full(len(rows), len(STRENGTHS), np.float64)
    for place, findings in rows.findings.items():
        telling = [one.rank for one in findings if one.says != "none"]
        ranks[place] = min(telling, default=len(STRENGTHS))
    return ranks


def _contradicting(rows: ResultRows, evidence: npt.NDArray[np.int32]) -> Keys:
    """Return 0 for files that contradict themselves, and more where score and file disagree."""
    keys = np.full(len(rows), np.nan)
    keys[(evidence == _SAYS_CAMERA) & (rows.verdict == _AI)] = 2
    keys[(evidence == _SAYS_AI) & (rows.verdict == _REAL)] = 1
    for place, findings in rows.findings.items():
        if any(one.kind == CONTRADICTION for one in findings):
            keys[place] = 0
    return keys
