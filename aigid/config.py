"""The settings of a scan, as one frozen value."""

from dataclasses import dataclass, field
from pathlib import Path

from aigid.cores import available_cores
from aigid.errors import UsageError
from aigid.manifest import ColumnChoice
from aigid.scorers.triton_config import TritonConfig


@dataclass(frozen=True)
class ScanConfig:
    """What to scan, with which model, and how. Raises UsageError for values out of range.

    `threshold` None means 0.5, or what `max_fpr` (a false-positive rate) stands for in the model's contract.
    `workers` threads each decode and score one batch of `batch_rows` at a time; with `triton`, servers do the scoring.
    """

    manifests: tuple[str, ...]
    out: str
    model: Path | None = None
    triton: TritonConfig | None = None
    columns: ColumnChoice = field(default_factory=ColumnChoice)
    image_root: Path | None = None
    allow_outside_root: bool = False
    threshold: float | None = None
    max_fpr: float | None = None
    limit: int | None = None
    workers: int = field(default_factory=available_cores)
    batch_rows: int = 32
    shard_rows: int = 10_000
    max_error_rate: float = 0.05

    def __post_init__(self) -> None:
        if not self.manifests:
            raise UsageError("no manifest given")
        if self.threshold is not None and self.max_fpr is not None:
            raise UsageError("--threshold and --max-fpr exclude each other: give one of them")
        for name in ("threshold", "max_fpr", "max_error_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"--{name.replace('_', '-')} must be from 0 to 1: got {value}")
        for name in ("limit", "workers", "batch_rows", "shard_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = "batch-size" if name == "batch_rows" else name.replace("_", "-")
                raise UsageError(f"--{option} must be 1 or more: got {value}")
