"""The settings of a scan, as one frozen value."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from aigid.cores import available_cores
from aigid.errors import UsageError
from aigid.manifest import ColumnChoice
from aigid.scorers.triton_config import TritonConfig

_RAY_ADDRESS = re.compile(r"auto|local|(\[[0-9a-fA-F:.]+\]|[^\s:/\[\],]+):\d{1,5}")


@dataclass(frozen=True)
class RayConfig:
    """A scan on a Ray cluster. Raises UsageError for values out of range.

    `address` is HOST:PORT of the cluster's head, "auto" for the cluster that this machine is in, or "local" for one of this
    scan's own. Each worker process gets `worker_cpus` cores, as many threads, and whatever else is reserved for it. There are
    at least `min_workers`, or the scan does not begin, and ends after `start_within_s` seconds; and at most `max_workers`,
    by default as many as have room. A shard is given up after `shard_attempts`.
    """

    address: str = "auto"
    min_workers: int = 1
    max_workers: int | None = None
    worker_cpus: int = 1
    worker_gpus: float = 0
    worker_memory_gib: float | None = None
    worker_resources: tuple[tuple[str, float], ...] = ()
    shard_attempts: int = 3
    start_within_s: float = 600.0

    def __post_init__(self) -> None:
        if self.address.startswith("ray://"):
            raise UsageError(
                f"--ray {self.address}: a scan runs on a machine of its cluster: submit it with `ray job submit -- python "
                "jobs/scan.py ...`, or give HOST:PORT there"
            )
        if not _RAY_ADDRESS.fullmatch(self.address):
            raise UsageError(
                f"--ray {self.address!r}: no address of a cluster: give HOST:PORT, auto or local (write --ray=auto, or --ray "
                "last, where no address follows)"
            )
        for name in ("min_workers", "max_workers", "worker_cpus", "shard_attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be 1 or more: got {value}")
        for name, amount in self.worker_resources:
            if not (name and amount > 0):
                raise UsageError(
                    f"--worker-resources {name}={amount:g}: an amount is more than 0 of something with a name"
                )
        if self.max_workers is not None and self.max_workers < self.min_workers:
            raise UsageError(
                f"--max-workers {self.max_workers} is less than --min-workers {self.min_workers}"
            )


@dataclass(frozen=True)
class ScanConfig:
    """What to scan, with which model, and how. Raises UsageError for values out of range.

    `threshold` None means 0.5, or what `max_fpr` (a false-positive rate) stands for in the model's contract.
    `threads` threads each decode and score one batch of `batch_rows` at a time; with `triton`, servers do the scoring; with
    `ray`, workers of a cluster scan the shards, with threads of their own.
    """

    paths: tuple[str, ...]
    out: str
    model: Path | None = None
    triton: TritonConfig | None = None
    ray: RayConfig | None = None
    image_column: str | None = None
    prompt_column: str | None = None
    keep: tuple[str, ...] = ()
    image_root: str | None = None
    allow_outside_root: bool = False
    allow_private_addresses: bool = False
    threshold: float | None = None
    max_fpr: float | None = None
    limit: int | None = None
    threads: int = field(default_factory=available_cores)
    batch_rows: int = 32
    shard_rows: int = 10_000
    max_error_rate: float = 0.05

    def __post_init__(self) -> None:
        if not self.paths:
            raise UsageError("no manifest given")
        if self.threshold is not None and self.max_fpr is not None:
            raise UsageError("--threshold and --max-fpr exclude each other: give one of them")
        for name in ("threshold", "max_fpr", "max_error_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"--{name.replace('_', '-')} must be from 0 to 1: got {value}")
        for name in ("limit", "threads", "batch_rows", "shard_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = "batch-size" if name == "batch_rows" else name.replace("_", "-")
                raise UsageError(f"--{option} must be 1 or more: got {value}")

    @property
    def columns(self) -> ColumnChoice:
        """The columns to read, as the manifest's reader takes them."""
        return ColumnChoice(self.image_column, self.prompt_column, self.keep)
