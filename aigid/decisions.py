"""From scores to decisions. Pure functions: a new threshold needs no new scores."""

import numpy as np
import numpy.typing as npt

from aigid.contract import OpenSet
from aigid.scorers import Probabilities

DEFAULT_THRESHOLD = 0.5


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
