"""Signals that ask a process to stop, in small processes of their own."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# Defines `command`, runs it as a command line would, and says when it may be interrupted.
PROGRAM = """
import os, signal, sys, threading, time
from aigid.cli import signals
signals._GRACE_S = {grace_s}
def ready():
    print("ready", flush=True)
{command}
stop = signals.StopSignals()
with stop.watched(), stop.interrupting("work interrupted; run it again"):
    command()
"""
WAITING = """
def command():
    ready()
    time.sleep(600)
"""
CLEANING_UP = """
def command():
    try:
        ready()
        time.sleep(600)
    finally:
        print("cleaned up", flush=True)
"""
HANGING = """
def command():
    try:
        ready()
        time.sleep(600)
    finally:
        print("hangs", flush=True)
        while True:
            time.sleep(600)
"""
WITH_A_THREAD = """
def command():
    threading.Thread(target=time.sleep, args=(600,)).start()
    ready()
    time.sleep(600)
"""
FAILING_BECAUSE_OF_IT = """
def command():
    try:
        ready()
        time.sleep(600)
    except KeyboardInterrupt:
        raise ImportError("initialization failed")
"""
IN_A_DESTRUCTOR = """
class Slow:
    def __del__(self):
        ready()
        time.sleep(600)
def command():
    slow = Slow()
    del slow
    time.sleep(600)
"""
LINE = "aigid: work interrupted; run it again\n"


@contextmanager
def started(
    command: str, grace_s: float = 600, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """Start a program with this command, and wait until it is ready."""
    words = [sys.executable, "-c", PROGRAM.format(command=command, grace_s=grace_s)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [WAITING, CLEANING_UP, WITH_A_THREAD, FAILING_BECAUSE_OF_IT])
def test_a_signal_ends_a_command_with_a_line_and_the_status_of_shells(
    command: str, number: int
) -> None:
    with started(command) as process:
        process.send_signal(number)
        said, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (128 + number, LINE)
    assert said == ("cleaned up\n" if command is CLEANING_UP else "")


@pytest.mark.parametrize("command", [HANGING, IN_A_DESTRUCTOR])
def test_a_command_that_does_not_end_is_ended(command: str) -> None:
    with started(command, grace_s=0.2) as process:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (143, LINE)


def test_a_second_signal_ends_the_process_at_once() -> None:
    with started(HANGING) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    # The status is the first one's.
    assert (process.returncode, told) == (143, LINE)


def test_a_stderr_that_nobody_reads_does_not_hold_up_the_end() -> None:
    command = WAITING.replace("ready()", "os.set_blocking(2, False); fill(); ready()")
    fill = """
def fill():
    try:
        while True:
            os.write(2, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(2, True)
"""
    with started(fill + command, grace_s=0.2) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_worker_processes_end_with_it() -> None:
    command = """
import multiprocessing
def command():
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    worker.start()
    print(worker.pid, flush=True)
    try:
        time.sleep(600)
    finally:
        time.sleep(600)
"""
    ready_first = command.replace("def command():", "def command():\n    ready()")
    with started(ready_first, grace_s=0.2) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    import psutil

    psutil.wait_procs([psutil.Process(worker)] if psutil.pid_exists(worker) else [], timeout=30)
    assert not psutil.pid_exists(worker)


def test_an_ignored_signal_stays_ignored() -> None:
    """`nohup` and shells in the background start processes that way."""
    command = """
def command():
    ready()
    sys.stdin.readline()
"""
    with started(
        command,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        stdin=subprocess.PIPE,
    ) as process:
        process.send_signal(signal.SIGHUP)
        _, told = process.communicate("go on\n", timeout=60)
    assert (process.returncode, told) == (0, "")


def test_signals_of_others_are_not_ours() -> None:
    command = """
def command():
    signal.signal(signal.SIGUSR1, lambda number, frame: print("heard", flush=True))
    ready()
    sys.stdin.readline()
"""
    with started(command, stdin=subprocess.PIPE) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert process.stdout.readline() == "heard\n"
        _, told = process.communicate("go on\n", timeout=60)
    assert (process.returncode, told) == (0, "")


def test_before_a_command_runs_a_signal_is_one_line() -> None:
    program = """
import sys
from aigid.cli.signals import StopSignals
with StopSignals().watched():
    print("ready", flush=True)
    sys.stdin.readline()
"""
    words = [sys.executable, "-c", program]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == "aigid: interrupted\n"
