"""How many CPU cores this process may use."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores that this process may use, at least 1.

    CPU affinity and a container's CPU limit both count. `cgroup` is the folder where Linux
    publishes the limit: `cpu.max` in version 2, files in `cpu/` in version 1.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(cores, math.ceil(_cpu_limit(cgroup, cores))))


def _cpu_limit(cgroup: Path, cores: int) -> float:
    """Return the container's CPU limit in cores, or `cores` if there is no limit."""
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
    return cores
