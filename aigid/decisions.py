"""From scores to decisions. Pure functions: a new threshold needs no new scores."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from aigid.contract import ModelContract, OpenSet
from aigid.errors import UsageError
from aigid.records import Mode, Verdict
from aigid.scorers import Probabilities

DEFAULT_THRESHOLD = 0.5
VERDICTS = tuple(Verdict)
"""The verdicts, in the order of the indexes that `decide_verdict` returns."""


@dataclass(frozen=True)
class VerdictRule:
    """The verdicts of a mode: `ai` from one `p_ai` on, `real` below another, `unsure` between.

    `real_below` is never above `ai_from`.
    """

    mode: Mode
    ai_from: float
    real_below: float

    @classmethod
    def of(cls, mode: Mode, threshold: float, contract: ModelContract) -> Self:
        """Return the rule of a mode, for a model and the threshold of `is_ai`.

        A very good model's bounds may cross: many `p_ai` then are both high enough for `ai` and low
        enough for `real`. The threshold tells these apart; outside of them, it is moved to the
        nearest bound. Either way, both rates are kept, and no verdict is `unsure`.

        Raises ContractError where the model stores no bounds for the mode.
        """
        if mode.rate is None:
            return cls(mode, threshold, threshold)
        ai, real = contract.verdict_thresholds(mode, mode.rate)
        ai_from, real_below = ai.p_ai, real.p_ai
        if real_below > ai_from:
            ai_from = real_below = min(max(threshold, ai_from), real_below)
        return cls(mode, ai_from, real_below)


def decide_verdict(p_ai: Probabilities, rule: VerdictRule) -> npt.NDArray[np.int32]:
    """Return the index into `VERDICTS` for each of N images, from `p_ai` alone, in float32."""
    is_ai, is_real = decide_ai(p_ai, rule.ai_from), ~decide_ai(p_ai, rule.real_below)
    ai, real, unsure = map(VERDICTS.index, (Verdict.AI, Verdict.REAL, Verdict.UNSURE))
    return np.where(is_ai, ai, np.where(is_real, real, unsure)).astype(np.int32)


def mode_of(mode: object) -> Mode:
    """Return the mode of this name. Raises UsageError where there is none."""
    if isinstance(mode, str) and mode in list(Mode):
        return Mode(mode)
    raise UsageError(f"`mode` must be one of {', '.join(Mode)}: got {mode!r}")


def decide_ai(p_ai: Probabilities, threshold: float) -> npt.NDArray[np.bool_]:
    """Return whether each of N images is AI-generated: `p_ai >= threshold`, in float32."""
    return p_ai >= np.float32(threshold)


def decide_source(
    is_ai: npt.NDArray[np.bool_],
    p_source: Probabilities,
    known_score: Probabilities,
    open_set: OpenSet | None,
) -> npt.NDArray[np.int32]:
    """Return the index into `source_names(labels)` for each of N images.

    It is 0 (real) if the image is not AI-generated, else the index of the likeliest generator, or
    that of `other` if `known_score` is below the threshold of `open_set`.
    """
    generator = 1 + np.argmax(p_source[:, 1:], axis=1)
    if open_set is not None:
        other = p_source.shape[1]
        generator = np.where(known_score < np.float32(open_set.threshold), other, generator)
    return np.where(is_ai, generator, 0).astype(np.int32)
