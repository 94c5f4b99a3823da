"""The figures of one run of a scan: rows, duration, speed and memory."""

import re
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from aigid.progress import StageFigures

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class RunFigures:
    """What the last run of a scan did; `rows_per_s` is None if it had no rows left to scan.

    The others are the StageFigures of its shards.
    """

    rows: int
    seconds: float
    rows_per_s: float | None
    peak_memory_mib: float
    fetch_s: float = 0.0
    evidence_s: float = 0.0
    decode_s: float = 0.0
    score_s: float = 0.0
    duplicates: int | None = None

    @classmethod
    def of(cls, rows: int, seconds: float, stages: StageFigures = StageFigures()) -> Self:
        """Return the figures of a run that ends now, rounded for people."""
        return cls(
            rows=rows,
            seconds=round(seconds, 3),
            rows_per_s=round(rows / seconds, 2) if rows else None,
            peak_memory_mib=round(_peak_memory_mib(), 1),
            fetch_s=round(stages.fetch_s, 3),
            evidence_s=round(stages.evidence_s, 3),
            decode_s=round(stages.decode_s, 3),
            score_s=round(stages.score_s, 3),
            duplicates=stages.duplicates,
        )


def _peak_memory_mib() -> float:
    if _STATUS.exists():
        # On Linux, the figure of getrusage includes the process that started this one.
        return int(re.findall(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / 1024 if sys.platform == "darwin" else peak / 1024
