"""Ctrl-C, SIGTERM and SIGHUP: the command line ends within seconds, whatever it waits for.

The main thread may wait in C code, where Python raises nothing. So a thread of its own watches for
signals. It is there before the command line is imported: nothing heavy is imported here.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# For the main thread to clean up. With it the process ends within five seconds.
_GRACE_S = 3.0
_PRINTED_WITHIN_S = 0.3
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = "\x1b[?25h\n"


class StopSignals:
    """The signals that ask this process to stop, and how it stops.

    The first one raises KeyboardInterrupt in the main thread while a command runs, so that it
    cleans up. A second one ends the process at once, and so does the end of a period of grace. The
    process says what was interrupted, in one line on stderr, and ends with the shell's status: 128
    plus the signal's number.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._line = "interrupted"
        self._running = self._raised = self._said = False
        self._saying = threading.Lock()

    @property
    def status(self) -> int:
        """The exit status: that of Ctrl-C where no signal came, but a KeyboardInterrupt."""
        return 128 + (self.received or signal.SIGINT)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch for the signals; once one has come, what is run inside ends the process.

        A signal that the parent process has this one ignore, as `nohup` does, stays ignored.
        """
        heard, told = os.pipe()
        os.set_blocking(told, False)
        threading.Thread(target=self._watch, args=(heard,), name="signals", daemon=True).start()
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        self._silence_consequences()
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._interrupt)
        try:
            yield
        except BaseException:
            # After a signal, any failure is a consequence of it.
            if self.received is not None:
                self.end()
            raise

    @contextmanager
    def interrupting(self, line: str) -> Iterator[None]:
        """Run a command that cleans up after KeyboardInterrupt; then print `line` and exit."""
        self._line, self._running = line, True
        try:
            yield
        except KeyboardInterrupt:
            from aigid.cli.errors import print_message

            self._say(print_message)
            sys.exit(self.status)
        finally:
            self._running = False

    def end(self) -> None:
        """End the process at once, and processes that it has started for a part of its work.

        Threads that still wait for a network would hold up a usual exit.
        """
        try:
            self._say(_write_past_python)
            if "multiprocessing.util" in sys.modules:
                for child in sys.modules["multiprocessing"].active_children():
                    child.kill()
                if threading.current_thread() is threading.main_thread():
                    # Otherwise multiprocessing warns of semaphores that are left.
                    sys.modules["multiprocessing.util"]._exit_function()
        finally:
            os._exit(self.status)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        if self._running and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _watch(self, heard: int) -> None:
        self.received = self._next(heard)
        if self._running:
            self._next(heard, _GRACE_S)
        self.end()

    def _next(self, heard: int, within_s: float | None = None) -> int | None:
        """Return the number of the next signal, None where none comes in time."""
        until = None if within_s is None else time.monotonic() + within_s
        while True:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([heard], [], [], left_s)[0]:
                return None
            # The process may have handlers of other signals, which are heard as well.
            number = os.read(heard, 1)[0]
            if number in _SIGNALS:
                return number

    def _say(self, write: Callable[[str], None]) -> None:
        """Print the line, once; not where another thread is held up by printing it."""
        if self._saying.acquire(timeout=_PRINTED_WITHIN_S):
            if not self._said:
                self._said = True
                write(self._line)
            self._saying.release()

    def _silence_consequences(self) -> None:
        """Print no tracebacks once a signal has come: of destructors, and of other threads."""
        unraisable, of_thread = sys.unraisablehook, threading.excepthook

        def show_unraisable(error: "sys.UnraisableHookArgs") -> None:
            if self.received is None:
                unraisable(error)

        def show_of_thread(error: threading.ExceptHookArgs) -> None:
            if self.received is None:
                of_thread(error)

        sys.unraisablehook, threading.excepthook = show_unraisable, show_of_thread


def _write_past_python(line: str) -> None:
    """Print a line to stderr, which another thread may hold, or a reader that does not read."""
    # A progress bar hides the cursor.
    before = _SHOW_CURSOR if os.isatty(2) else ""
    with suppress(OSError):
        if select.select([], [2], [], 0)[1]:
            os.write(2, f"{before}aigid: {line}\n".encode())
