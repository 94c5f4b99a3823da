"""What the thresholds that a model stores for false-positive rates do on other data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aigid.contract import Threshold
from aigid.decisions import decide_ai
from aigid.training.intervals import Proportion
from aigid.training.metrics import LabelledScores


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold stored for the rate `max_fpr`, and the rates that were measured at it."""

    max_fpr: float
    threshold: Threshold
    fpr: Proportion
    tpr: Proportion

    @property
    def is_exceeded(self) -> bool:
        """Whether the measured false-positive rate is above `max_fpr`, beyond chance."""
        return self.fpr.interval is not None and self.fpr.interval.low > self.max_fpr

    def to_json(self) -> dict[str, Any]:
        """Return the point as it stands in metrics.json."""
        return {
            "max_fpr": self.max_fpr,
            "p_ai": self.threshold.p_ai,
            "fpr": self.fpr.to_json(),
            "tpr": self.tpr.to_json(),
            "is_exceeded": self.is_exceeded,
        }


def measure_thresholds(
    scores: LabelledScores, thresholds: Mapping[str, Threshold]
) -> tuple[OperatingPoint, ...]:
    """Return the operating points of stored thresholds, by rate as text, highest rate first."""
    points = []
    for rate, threshold in sorted(thresholds.items(), key=lambda item: -float(item[0])):
        is_ai = decide_ai(scores.p_ai, threshold.p_ai)
        fpr, tpr = (Proportion.of(is_ai[scores.label_a == label]) for label in (0, 1))
        points.append(OperatingPoint(float(rate), threshold, fpr, tpr))
    return tuple(points)
