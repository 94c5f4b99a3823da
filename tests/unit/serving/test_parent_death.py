"""What a process has started ends with it, whichever way it ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from aigid.serving.parent_death import kill_tied, start_tied

# A program that has a child, both deaf to what asks them to end. It prints their ids.
DEAF = ["/bin/sh", "-c", "trap '' TERM INT HUP; sleep 600 & echo $$ $!; wait"]
PARENT = """\
import os, sys, threading, time
from pathlib import Path
from aigid.serving.parent_death import start_tied
def start():
    with Path(sys.argv[1]).open("wb") as log:
        kept.append(start_tied(sys.argv[2:], os.environ, log))
kept = []
# A thread that ends before the process does.
thread = threading.Thread(target=start)
thread.start()
thread.join()
print("started", flush=True)
time.sleep(600)
"""


def started(log: Path) -> list[psutil.Process]:
    """Wait for the ids of DEAF, and return its processes."""
    while not log.read_text().endswith("\n"):
        threading.Event().wait(0.02)
    return [psutil.Process(int(process)) for process in log.read_text().split()]


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), *DEAF]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        try:
            yield process
        finally:
            process.kill()


def assert_ended(processes: list[psutil.Process]) -> None:
    """Wait until all have ended; their parent may be one that does not reap them."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            while process.status() != psutil.STATUS_ZOMBIE:
                threading.Event().wait(0.02)


def processes_of_group(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.pids():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process) == group:
                found.append(psutil.Process(process))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_program_and_its_children_end_with_their_parent(
    parent: subprocess.Popen[bytes], tmp_path: Path, number: int
) -> None:
    processes = started(tmp_path / "log")
    # One that runs no more, and hears nothing.
    processes[-1].suspend()
    parent.send_signal(number)
    parent.wait()
    assert_ended(processes)


def test_a_program_outlives_the_thread_that_started_it(
    parent: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    # The parent's thread ended before it said "started".
    for process in started(tmp_path / "log"):
        assert process.is_running()
        assert process.status() != psutil.STATUS_ZOMBIE


def test_a_program_has_its_own_id_status_and_streams(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = start_tied(["/bin/sh", "-c", "echo $$ $GIVEN; cat; exit 7"], {"GIVEN": "1"}, log)
        assert process.wait(60) == 7
        kill_tied(process)
    assert (tmp_path / "log").read_text() == f"{process.pid} 1\n"
    assert process.returncode == 7


def test_what_is_left_of_a_program_is_killed(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = start_tied(DEAF, os.environ, log)
        processes = started(tmp_path / "log")
        group = processes_of_group(process.pid)
        # The second shell, which waits for this process to end, is in the group, and no child.
        assert len(group) == len(processes) + 1
        assert processes[0].children() == processes[1:]
        os.kill(process.pid, signal.SIGKILL)
        kill_tied(process)
    assert_ended(group)
    assert process.returncode == -signal.SIGKILL
