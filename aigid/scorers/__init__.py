"""What turns pixels and token ids into probabilities: one protocol, one file for each way to run the model."""

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
    """The answers for N rows: `p_ai` float32 [N], `p_source` float32 [N, 6]."""

    p_ai: Probabilities
    p_source: Probabilities


class Scorer(Protocol):
    """Scores batches; called from several threads at once. A row's answer never depends on its neighbours."""

    contract: ModelContract
    precision: str
    in_flight: int
    """How many batches it works on while none of its callers waits for it; 0 where they are computed by the caller."""

    def submit(self, images: Pixels, tokens: TokenBatch) -> "Future[Scores]":
        """The probabilities of N images, uint8 [N, *ImageSpec.shape], each with its prompt, now or later."""
        ...

    def score(self, images: Pixels, tokens: TokenBatch) -> Scores:
        """The same, waited for."""
        ...

    def close(self) -> None:
        """Give up what is still in flight."""
        ...
