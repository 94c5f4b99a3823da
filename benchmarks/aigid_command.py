"""The command line of aigid, for benchmarks of what a user types."""

import subprocess
import sys
import time


def aigid(*words: object) -> float:
    """Run a command of aigid; return its seconds. Ends with its status if it fails."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "aigid", *map(str, words)], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return time.perf_counter() - start
