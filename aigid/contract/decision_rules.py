"""How scores become decisions: temperatures, thresholds, labels and the open set."""

import math
import sys
from dataclasses import dataclass

from aigid.errors import ContractError
from aigid.records import OTHER, REAL

CONFIDENCE = 0.95
"""The probability with which a stored threshold keeps its rate; also that of all intervals."""


@dataclass(frozen=True)
class Temperatures:
    """The divisors of each head's logits, inside the graph, that calibrate the probabilities."""

    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        if not (self.a > 0 and self.b > 0):
            raise ContractError(f"temperatures must be positive: got {self}")


@dataclass(frozen=True)
class Threshold:
    """The `p_ai` threshold of a false-positive rate.

    It was measured on `real_rows` rows of real images. With the probability `confidence`, the true
    rate is not above the one that was asked for.
    """

    p_ai: float
    real_rows: int
    confidence: float

    def __post_init__(self) -> None:
        if self.real_rows < 1 or not 0 < self.confidence < 1:
            raise ContractError(
                f"a threshold needs real_rows above 0, and a confidence between 0 and 1: got {self}"
            )


@dataclass(frozen=True)
class MissThreshold:
    """The `p_ai` threshold of a miss rate: the share of AI-generated images below it.

    It was measured on `ai_rows` rows of AI-generated images. With the probability `confidence`, the
    true rate is not above the one that was asked for.
    """

    p_ai: float
    ai_rows: int
    confidence: float

    def __post_init__(self) -> None:
        if self.ai_rows < 1 or not 0 < self.confidence < 1:
            raise ContractError(
                f"a threshold needs ai_rows above 0, and a confidence between 0 and 1: got {self}"
            )


def rows_needed(rate: float) -> int:
    """Return how many real rows a threshold for the false-positive rate `rate` needs.

    With fewer, even a detector that calls none of them AI-generated may exceed the rate. A miss
    rate needs as many AI-generated rows.
    """
    # The quotient is infinite for the smallest rates.
    return math.ceil(min(math.log(1 - CONFIDENCE) / math.log1p(-rate), sys.maxsize))


@dataclass(frozen=True)
class OpenSet:
    """When an AI-generated image's source is `other`: its `known_score` is below `threshold`.

    `known_rate` is the share of the known generators' rows that keep their generator's name, of the
    `rows` that the threshold was fitted on.
    """

    threshold: float
    known_rate: float
    rows: int

    def __post_init__(self) -> None:
        if self.rows < 1 or not 0 <= self.known_rate <= 1:
            raise ContractError(
                f"open_set needs rows above 0, and a known_rate from 0 to 1: got {self}"
            )


@dataclass(frozen=True)
class FittedOn:
    """What thresholds were fitted on, and temperatures unless they were kept from before.

    `data` names the manifest, `rows` counts its rows and `real_rows` those of real images. `graphs`
    is the precision of the graphs that scored them, or "torch fp32" for the checkpoint itself.
    """

    data: str
    rows: int
    real_rows: int
    graphs: str


def check_labels(labels: tuple[str, ...], open_set: OpenSet | None = None) -> None:
    """Raise ContractError unless these can be a model's labels.

    They are at least two, all different and printable, and the first is "real". A model with the
    label "other" has a class for generators that it does not know, and so no open set.
    """
    if open_set is not None and OTHER in labels:
        raise ContractError(f"open_set must be null for a model with the label {OTHER!r}")
    if (
        labels[:1] != (REAL,)
        or len(labels) < 2
        or len(set(labels)) < len(labels)
        or not all(label.isprintable() and label.strip() == label != "" for label in labels)
    ):
        raise ContractError(
            f"labels must be at least two different names, {REAL!r} first: got {list(labels)}"
        )
