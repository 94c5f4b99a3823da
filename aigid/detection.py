"""Detection: the answer of a Detector for one image-prompt pair."""

from dataclasses import dataclass

from aigid.evidence import Finding
from aigid.records import RowError, Verdict


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
