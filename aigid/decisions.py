"""From probabilities to decisions. Pure functions: a new threshold needs no new scores."""

import numpy as np
import numpy.typing as npt

from aigid.records import DEFAULT_LABELS
from aigid.scorers import Probabilities

DEFAULT_THRESHOLD = 0.5


def decide_ai(p_ai: Probabilities, threshold: float) -> npt.NDArray[np.bool_]:
    """Return whether each of N images is AI-generated: `p_ai >= threshold`, in float32."""
    return p_ai >= np.float32(threshold)


def decide_source(is_ai: npt.NDArray[np.bool_], p_source: Probabilities) -> npt.NDArray[np.int32]:
    """Return the index into DEFAULT_LABELS for each of N images.

    It is 0 (real) if the image is not AI-generated, else the index of the likeliest generator.
    """
    return np.where(is_ai, 1 + np.argmax(p_source[:, 1:], axis=1), 0).astype(np.int32)


def source_name(index: int) -> str:
    """Return the name of a source by its index."""
    return DEFAULT_LABELS[index]
