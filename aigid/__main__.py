"""The command `aigid`, and `python -m aigid`."""

from collections.abc import Sequence

from aigid.cli.signals import StopSignals


def main(words: Sequence[str] | None = None, name: str | None = None) -> None:
    """Run the command line with these words, by default those that the process was given."""
    signals = StopSignals()
    with signals.watched():
        # Not before: imports take a while, and a signal must not end in a traceback of them.
        from aigid.cli.main import main as command_line

        command_line(words, prog_name=name, obj=signals)


if __name__ == "__main__":
    main()
