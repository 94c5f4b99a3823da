"""The boundary between the library's errors and the command line: one line on stderr, one status.

The library names parameters in backticks. Here they become the flags of the command that runs.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click
from click.core import ParameterSource

from aigid.cli.stdout import flush_or_discard
from aigid.errors import AigidError
from aigid.records import escaped

EXIT_TOO_MANY_ERRORS = 3
EXIT_INTERRUPTED = 130
EXIT_STATUSES = {
    0: "finished",
    1: "could not go on, gave up shards, or could not print the result; what was committed stays",
    2: "wrong usage: no such option, file, column or model, or a folder of another scan",
    EXIT_TOO_MANY_ERRORS: "finished, but more rows have an error than `--max-error-rate` allows",
    EXIT_INTERRUPTED: "interrupted (143 by SIGTERM, 129 by SIGHUP); what was committed stays",
}
"""The exit statuses of all commands, for the documents."""

PARAMETERS = {
    "address": ("ray",),
    "addresses": ("triton",),
    "api_keys": ("api_key_file",),
    "augmentation": ("augment",),
    "batch_rows": ("batch_size",),
    "blur": ("augment",),
    "certificate_chain": ("triton_cert",),
    "crop": ("augment",),
    "deadline_s": ("triton_deadline",),
    "fetch": ("allow_fetch",),
    "flip": ("augment",),
    "folder": ("out",),
    "headers": ("header",),
    "in_flight": ("triton_in_flight",),
    "jpeg": ("augment",),
    "patience_s": ("triton_patience",),
    "paths": ("manifests",),
    "precisions": ("precision",),
    "private_key": ("triton_key",),
    "readers": ("reader",),
    "repository": ("model",),
    "resize": ("augment",),
    "root_certificates": ("triton_ca",),
    "start_within_s": ("worker_start",),
    "test_manifests": ("test",),
    "tls": ("triton_tls",),
    "train": ("train_manifests",),
    "trust_anchors": ("trust_list",),
    "variants": ("variant",),
    "worker_memory_gib": ("worker_memory",),
}
"""Fields of the library's configs whose parameters on the command line have other names."""

_IN_BACKTICKS = re.compile(r"`([A-Za-z_][A-Za-z0-9_]*)`")


@contextmanager
def error_boundary() -> Iterator[None]:
    """Turn errors of aigid, and Ctrl-C, into one line on stderr and an exit status."""
    try:
        yield
    except AigidError as error:
        print_message(with_flags(str(error)))
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print_message("interrupted")
        sys.exit(EXIT_INTERRUPTED)


def print_message(message: str) -> None:
    """Print a line to stderr; a stderr that is full or closed changes nothing."""
    with suppress(OSError):
        # Not click.echo, which prints UTF-8 on a stderr that is ASCII only.
        sys.stderr.write(f"aigid: {escaped(message)}\n")
    flush_or_discard(sys.stderr)


def with_flags(message: str, context: click.Context | None = None) -> str:
    """Return the message with the running command's flags in place of parameters in backticks.

    Text in backticks that is no parameter of the command stays as it is. Threads other than the
    command's own must give its `context`.
    """
    context = context or click.get_current_context(silent=True)
    if context is None:
        return message
    return _IN_BACKTICKS.sub(lambda match: _flag(match[1], context) or match[0], message)


def _flag(name: str, context: click.Context) -> str | None:
    """Return how a user gives the parameter; None where the command has no such parameter."""
    parameters = {parameter.name: parameter for parameter in context.command.params}
    for candidate in (name, *PARAMETERS.get(name, ())):
        parameter = parameters.get(candidate)
        if isinstance(parameter, click.Option):
            return long_flag(parameter) + _origin(parameter, context)
        if parameter is not None:
            return parameter.metavar or candidate.upper()
    return None


def long_flag(option: click.Option) -> str:
    """Return the option's first long form, as in --out."""
    return next((flag for flag in option.opts if flag.startswith("--")), option.opts[0])


def variable_of(option: click.Parameter, context: click.Context) -> str | None:
    """Return the environment variable that sets the option of this context's command."""
    prefix = context.auto_envvar_prefix
    return f"{prefix}_{str(option.name).upper()}" if prefix and option.name else None


def is_from_environment(option: click.Parameter, context: click.Context) -> bool:
    """Tell whether the option's value came from an environment variable."""
    source = context.get_parameter_source(str(option.name))
    return source is ParameterSource.ENVIRONMENT


def _origin(option: click.Option, context: click.Context) -> str:
    if not is_from_environment(option, context):
        return ""
    return f" (from {variable_of(option, context)})"
