"""What goes to stderr: -v, -q and --log-level, before or after the name of the command."""

import logging
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from aigid.cli.errors import with_flags
from aigid.records import escaped

if TYPE_CHECKING:
    from aigid.progress_bar import ShownProgress

HEADING = "General"
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

_KEY = "aigid.verbosity"


@dataclass
class Verbosity:
    """What the options of the group and of its command ask for together."""

    verbose: int = 0
    quiet: bool = False
    log_level: str | None = None

    @property
    def level(self) -> int:
        """The least severe level that is logged."""
        if self.log_level is not None:
            return int(getattr(logging, self.log_level.upper()))
        if self.quiet:
            return logging.ERROR
        return (logging.WARNING, logging.INFO, logging.DEBUG)[min(self.verbose, 2)]


def verbosity_of(context: click.Context) -> Verbosity:
    """Return what the command line asks for so far; the group and its command share it."""
    found: Verbosity = context.meta.setdefault(_KEY, Verbosity())
    return found


def is_quiet() -> bool:
    """Tell whether the running command was given -q."""
    context = click.get_current_context(silent=True)
    return context is not None and verbosity_of(context).quiet


def shown_progress(label: str, *, as_json: bool = False) -> "ShownProgress":
    """Return the progress display of the running command: nothing with -q."""
    from aigid.progress_bar import show_progress

    return show_progress(label, as_json=as_json, quiet=is_quiet())


def add_verbose(context: click.Context, option: click.Parameter, count: int) -> None:
    """Take -v: each one shows more."""
    verbosity_of(context).verbose += count


def set_quiet(context: click.Context, option: click.Parameter, quiet: bool) -> None:
    """Take -q."""
    verbosity_of(context).quiet |= quiet


def set_log_level(context: click.Context, option: click.Parameter, level: str | None) -> None:
    """Take --log-level."""
    if level is not None:
        verbosity_of(context).log_level = level


def configure_logging(context: click.Context) -> None:
    """Log to stderr as the options ask for. Raises click.UsageError for -v with -q."""
    verbosity = verbosity_of(context)
    if verbosity.quiet and verbosity.verbose:
        raise click.UsageError("give one of --verbose and --quiet, not both", context)
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        root.addHandler(_StderrHandler())
    root.setLevel(max(verbosity.level, logging.WARNING))
    logging.getLogger("aigid").setLevel(verbosity.level)
    # urllib3 warns of each failed connection. Such failures are errors of ours, or retried.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    # Pillow warns of each odd file, a line for each. The row's error has what matters.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")


class _StderrHandler(logging.Handler):
    """Writes to the stderr of the moment, which a progress bar replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, with flags for parameters; a closed stderr changes nothing."""
        lines = with_flags(self.format(record)).splitlines()
        with suppress(OSError):
            sys.stderr.writelines(f"aigid: {escaped(line)}\n" for line in lines)
