"""How many cores there are to use."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT = 1e6


def available_cores(cgroup: Path = _CGROUP) -> int:
    """The cores that this process may use: in a container, those that are left to it of the machine's.

    `cgroup` is where Linux says what a container's processor time is limited to (version 2, or `cpu/` of version 1).
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(cores, math.ceil(_quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """Cores' worth of time that the container gets; a great many where nothing limits it."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join(
                (cgroup / name).read_text(encoding="ascii") for name in names
            ).split()
            if float(quota) > 0:
                return float(quota) / float(period)
        except (OSError, ValueError):
            # No such file, or "max": no limit of this kind.
            continue
    return _NO_LIMIT
