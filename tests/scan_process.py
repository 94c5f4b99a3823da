"""A scan as a process of its own, to be watched, interrupted and killed."""

import subprocess
import sys
import time
from pathlib import Path


def start_scan(manifest: Path, out: Path, *options: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "aigid.cli", "scan", str(manifest), "--out", str(out), *map(str, options)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_commits(process: subprocess.Popen[str], out: Path, commits: int, *, seconds: float = 300) -> bool:
    """Whether there are so many result files before the time is over; the scan must not end before."""
    deadline = time.monotonic() + seconds
    while len(list(out.glob("*.parquet"))) < commits:
        if time.monotonic() > deadline:
            return False
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    return True
