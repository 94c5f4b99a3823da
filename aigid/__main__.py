"""The command `aigid`, and `python -m aigid`."""

import os
import sys
from collections.abc import Sequence

from aigid.cli.signals import StopSignals


def main(words: Sequence[str] | None = None, name: str | None = None) -> None:
    """Run the command line with these words, by default those that the process was given."""
    signals = StopSignals()
    with signals.watched():
        # Not before: imports take a while, and a signal must not end in a traceback of them.
        from aigid.cli.main import main as command_line

        try:
            command_line(words, prog_name=name, obj=signals)
        except SystemExit as end:
            _end_at_once_if_calls_are_left(end)
            raise


def _end_at_once_if_calls_are_left(end: SystemExit) -> None:
    """Do not wait for a server that drips: PyArrow would, at a usual end of the process."""
    deadline = sys.modules.get("aigid.fetch.deadline")
    if deadline is not None and deadline.has_left_calls():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)


if __name__ == "__main__":
    main()
