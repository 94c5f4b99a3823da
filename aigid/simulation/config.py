"""What to simulate: the split, the number of rows, their sizes, and the processes that work."""

import os
from dataclasses import dataclass, field
from enum import StrEnum

from aigid.errors import UsageError

_SIDE_LIMITS = (32, 4096)


class Split(StrEnum):
    """The parts of the data set; no two share a scene or a caption, whatever their seeds."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"

    @property
    def number(self) -> int:
        """The position of the split, from 0; random states are seeded with it."""
        return list(Split).index(self)


@dataclass(frozen=True)
class SimulationConfig:
    """The settings of a simulation.

    Images have a shorter side of `shorter_side` pixels, or of 224 to 1024 with `varied_sizes`.
    `workers` processes share the work; their number does not change the bytes. Raises UsageError
    for a setting out of its range.
    """

    rows: int
    split: Split
    seed: int = 0
    shorter_side: int = 224
    varied_sizes: bool = False
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    rows_per_file: int = 2000
    rows_per_group: int = 100

    def __post_init__(self) -> None:
        for name in ("rows", "workers", "rows_per_file", "rows_per_group"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` must be 1 or more: got {getattr(self, name)}")
        if self.seed < 0:
            raise UsageError(f"`seed` must be 0 or more: got {self.seed}")
        low, high = _SIDE_LIMITS
        if not low <= self.shorter_side <= high:
            raise UsageError(
                f"`shorter_side` must be {low} to {high} pixels: got {self.shorter_side}"
            )
        if self.split not in list(Split):
            raise UsageError(f"`split` must be one of {', '.join(Split)}: got {self.split!r}")
        object.__setattr__(self, "split", Split(self.split))
