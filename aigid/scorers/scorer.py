"""The protocol of a scorer, and its answers."""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aigid.contract import ModelContract
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """The scores of N pairs: `p_ai` [N], `p_source` [N, labels] and `known_score` [N], float32."""

    p_ai: Probabilities
    p_source: Probabilities
    known_score: Probabilities


class Scorer(Protocol):
    """Scores batches of pairs, also for several threads at once.

    The probabilities of a pair never depend on the other pairs of its batch.
    """

    contract: ModelContract
    precision: str
    in_flight: int
    """Batches that the scorer works on in the background; 0 if callers compute them themselves."""

    def submit(self, images: Pixels, tokens: TokenBatch) -> "Future[Scores]":
        """Start to score N pairs: images uint8 [N, *ImageSpec.shape] and their prompts' tokens."""
        ...

    def score(self, images: Pixels, tokens: TokenBatch) -> Scores:
        """Score N pairs, and wait for the answer."""
        ...

    def close(self) -> None:
        """Give up the batches in flight and free the scorer's resources."""
        ...


class Scoring:
    """The scores of a batch that was given to a scorer, and how long they took."""

    def __init__(self, began: float, scores: "Future[Scores]") -> None:
        self._began, self.scores = began, scores
        self._ended: float | None = None
        scores.add_done_callback(self._end)

    def _end(self, scores: "Future[Scores]") -> None:
        self._ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        """The seconds from the batch's submission to its scores, which are there."""
        return (self._ended or time.perf_counter()) - self._began
