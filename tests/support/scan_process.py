"""A scan as a process of its own, to be watched, interrupted and killed."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def start_scan(manifest: Path, out: Path, *options: object) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "aigid",
        "scan",
        str(manifest),
        "--out",
        str(out),
        *map(str, options),
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_commits(
    process: subprocess.Popen[str], out: Path, commits: int, *, seconds: float = 300
) -> bool:
    """Whether there are so many result files before the time is over; the scan must not end before."""
    deadline = time.monotonic() + seconds
    while len(list(out.glob("*.parquet"))) < commits:
        if time.monotonic() > deadline:
            return False
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    return True


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for what must come; `what` says what it is if it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
