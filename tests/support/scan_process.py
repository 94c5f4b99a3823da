"""A scan as a process of its own, to be watched, interrupted and killed."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.scan_results import result_files


def start_scan(manifest: Path | str, out: Path, *options: object) -> subprocess.Popen[str]:
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
    """Return whether `commits` result files appear in time; the scan must not end before."""
    deadline = time.monotonic() + seconds
    while len(result_files(out)) < commits:
        if time.monotonic() > deadline:
            return False
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    return True


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds; `what` is the failure's message if it does not in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
