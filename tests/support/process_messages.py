"""The messages of a process, read while it runs."""

import subprocess
from threading import Thread

from support.scan_process import wait_until


class Messages:
    """The lines that a process writes to stderr. Nothing else may read its output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Wait until a line contains the text."""

        def found() -> bool:
            return any(text in line for line in list(self._lines))

        wait_until(found, f"no message {text!r}", seconds)

    def until_exit(self, seconds: float) -> str:
        """Wait for the end of the process, and return all its messages."""
        with self._process:
            self._process.wait(seconds)
            self._thread.join(seconds)
        return "".join(self._lines)

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(line)
