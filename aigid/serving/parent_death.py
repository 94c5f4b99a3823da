"""Start a program that does not outlive the process that starts it, however that one ends."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

# The program's stdin is a pipe whose other end is in the parent process. When that one ends, also
# by `kill -9`, the kernel closes the pipe. A second shell waits for that, and kills the process
# group: the program, and what it has started. The program itself gets an empty stdin.
# Not PR_SET_PDEATHSIG: it is tied to the parent's thread, a parent that dies early escapes it, and
# what the program has started does not hear of it.
# The second shell is no child of the program, which may wait for all of its children.
_TIED = """\
exec 3<&0 </dev/null
( ( read -r line <&3; kill -KILL 0 ) >/dev/null 2>&1 & )
exec 3<&-
exec "$@"
"""


def start_tied(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, with stdout and stderr to `output`.

    It ends, with its process group, when this process ends. End it with `kill_tied` at last, also
    where it has ended by itself.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _TIED, "aigid", *command],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def kill_tied(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process group of a program of `start_tied`, and reap the program."""
    assert process.stdin is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    process.wait()
