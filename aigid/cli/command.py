"""Commands of aigid: options under headings, environment variables, and one error boundary."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from aigid.cli.errors import error_boundary, is_from_environment, variable_of
from aigid.cli.signals import StopSignals
from aigid.cli.stdout import printing
from aigid.cli.verbosity import (
    HEADING,
    LOG_LEVELS,
    add_verbose,
    configure_logging,
    set_log_level,
    set_quiet,
)

_HELP = {"help_option_names": ["-h", "--help"]}
CONTEXT_SETTINGS: dict[str, Any] = {
    **_HELP,
    "auto_envvar_prefix": "AIGID",
    "max_content_width": 110,
}

_DEFAULT_IN_TEXT = re.compile(r"\[default: [^]]*\]")

Function = Callable[..., None]
Decorator = Callable[[Function], Function]


class HeadedOption(click.Option):
    """An option that --help shows under a heading, and whose errors name its variable."""

    def __init__(self, *names: Any, heading: str = HEADING, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.heading = heading

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the flags and the help text.

        A default that the text itself names gives way to one that stands in `ctx.default_map`.
        """
        record = super().get_help_record(ctx)
        default = (ctx.default_map or {}).get(self.name)
        if record is None or default is None or self.show_default:
            return record
        flags, text = record
        return flags, _DEFAULT_IN_TEXT.sub(f"[default: {default}]", text)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what an error calls this option: its flags, and the variable that set it."""
        hint = super().get_error_hint(ctx)  # type: ignore[arg-type, unused-ignore] # click < 8.4
        if ctx is None or not is_from_environment(self, ctx):
            return hint
        return f"{hint} (environment variable {variable_of(self, ctx)})"


def options_under(heading: str) -> Callable[..., Decorator]:
    """Return click.option for options under a heading."""

    def option(*names: str, **settings: Any) -> Decorator:
        return click.option(*names, cls=HeadedOption, heading=heading, **settings)

    return option


def with_options(function: Function, options: Iterable[Decorator]) -> Function:
    """Return the command's function with the options, in this order in its help."""
    for option in reversed(tuple(options)):
        function = option(function)
    return function


class Command(click.Command):
    """A command with -v, -q and --log-level, whose errors are one line and an exit status.

    `extra` is the extra that all of the command needs. `after_interrupt` tells what to do after
    Ctrl-C, as in "run the same command again to continue".
    """

    def __init__(
        self, *names: Any, extra: str | None = None, after_interrupt: str = "", **settings: Any
    ) -> None:
        # Its own, for a command that build/ has by itself.
        settings["context_settings"] = _HELP
        super().__init__(*names, **settings)
        self.params.extend(verbosity_options())
        self._extra, self._after_interrupt = extra, after_interrupt

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; a stdout that --help cannot be printed to is one clear error."""
        with error_boundary(), printing("the help"):
            return super().parse_args(ctx, args)
        # The reader of --help has closed the pipe.
        raise click.exceptions.Exit(0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command within the error boundary."""
        configure_logging(ctx)
        signals = ctx.find_object(StopSignals) or StopSignals()
        line = "; ".join(filter(None, (f"{self.name} interrupted", self._after_interrupt)))
        with error_boundary(), signals.interrupting(line), _extra_named(self._extra):
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings; --help comes with the general ones."""
        write_options(self.get_params(ctx), ctx, formatter)


def write_options(
    parameters: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write options under their headings, in the order of the first option of each."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is not None and isinstance(parameter, click.Option):
            sections.setdefault(getattr(parameter, "heading", HEADING), []).append(record)
    for heading, records in sections.items():
        with formatter.section(heading):
            formatter.write_dl(records)


def verbosity_options() -> list[click.Parameter]:
    """Return the options that the group and every command share."""
    return [
        HeadedOption(
            ["-v", "--verbose"],
            count=True,
            expose_value=False,
            callback=add_verbose,
            help="Log what aigid does; -vv logs details.",
        ),
        HeadedOption(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=set_quiet,
            help="Print errors only: no progress, no notices. Results still go to stdout.",
        ),
        HeadedOption(
            ["--log-level"],
            type=click.Choice(LOG_LEVELS, case_sensitive=False),
            metavar="LEVEL",
            expose_value=False,
            callback=set_log_level,
            help=f"Log from this level on: {', '.join(LOG_LEVELS)}.  [default: warning]",
        ),
    ]


@contextmanager
def _extra_named(extra: str | None) -> Iterator[None]:
    """Raise MissingExtraError, which names the extra, where a package of it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if extra is None or str(error.name).partition(".")[0] == "aigid":
            raise
        from aigid.extras import missing_extra

        raise missing_extra("this command", error, extra) from error
