"""Probabilities to decisions: pure functions, so that thresholds can change without scoring again."""

import numpy as np
import numpy.typing as npt

from aigid.records import SOURCES
from aigid.scorers import Probabilities

DEFAULT_THRESHOLD = 0.5


def decide_ai(p_ai: Probabilities, threshold: float) -> npt.NDArray[np.bool_]:
    """Whether each of N images is called AI-generated: `p_ai >= threshold`, compared in float32."""
    return p_ai >= np.float32(threshold)


def decide_source(is_ai: npt.NDArray[np.bool_], p_source: Probabilities) -> npt.NDArray[np.int32]:
    """The index into SOURCES of each of N images: 0 (real) where not AI, else the likeliest generator."""
    return np.where(is_ai, 1 + np.argmax(p_source[:, 1:], axis=1), 0).astype(np.int32)


def source_name(index: int) -> str:
    """The name of a source by its index."""
    return SOURCES[index]
