"""Detection: the answer of a Detector for one image-prompt pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from aigid.contract import ModelContract
from aigid.decisions import VERDICTS, VerdictRule, decide_ai, decide_source, decide_verdict
from aigid.evidence import Finding, evidence_of
from aigid.records import RowError, Verdict, source_names
from aigid.scorers import Scores


@dataclass(frozen=True)
class Detection:
    """The answer for one image-prompt pair.

    `p_ai` is the calibrated probability that the image is AI-generated, and `is_ai` tells whether
    it reaches the threshold. `source` is "real", or the likeliest generator of an image that is
    AI-generated, or "other" if no generator that the model knows fits. `p_source` has a probability
    for each of the model's labels, in their order. `known_score` tells how well a known generator
    fits, from 0 to 1. `verdict` is that of the detector's mode. All six are None if `error` is set.

    `evidence` is what the image's file says of its origin: "ai", "camera", "edited" or "none", as
    its strongest finding says. `findings` are all of them, the strongest first. Neither changes the
    score. `evidence` is None without `Detector.load(evidence=True)`, and where no file was read: of
    PIL images, arrays, and files that cannot be fetched. A file that cannot be decoded has its
    evidence beside its `error`.
    """

    p_ai: float | None
    is_ai: bool | None
    source: str | None
    p_source: tuple[float, ...] | None
    known_score: float | None = None
    verdict: Verdict | None = None
    error: RowError | None = None
    evidence: str | None = None
    findings: tuple[Finding, ...] = ()

    @classmethod
    def failed(cls, error: RowError) -> Self:
        """Return the answer for a pair that cannot be scored."""
        return cls(None, None, None, None, error=error)

    def with_findings(self, findings: Sequence[Finding]) -> Self:
        """Return this answer with what the image's file says of its origin."""
        return replace(self, evidence=evidence_of(findings).value, findings=tuple(findings))


@dataclass(frozen=True)
class DecisionRule:
    """What turns the scores of a model into answers: its contract, the threshold, the verdicts."""

    contract: ModelContract
    threshold: float
    verdicts: VerdictRule

    def detections(self, scores: Scores) -> list[Detection]:
        """Return the answers for N scored pairs, in their order."""
        open_set, labels = self.contract.open_set, self.contract.labels
        is_ai = decide_ai(scores.p_ai, self.threshold)
        sources = decide_source(is_ai, scores.p_source, scores.known_score, open_set)
        verdicts = decide_verdict(scores.p_ai, self.verdicts)
        names = source_names(labels)
        return [
            Detection(
                p_ai=float(scores.p_ai[row]),
                is_ai=bool(is_ai[row]),
                source=names[sources[row]],
                p_source=tuple(map(float, scores.p_source[row])),
                known_score=float(scores.known_score[row]),
                verdict=VERDICTS[verdicts[row]],
            )
            for row in range(len(is_ai))
        ]
