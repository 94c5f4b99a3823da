"""The options that say which pairs become pseudo-labels, for the commands that write some."""

from typing import Any

import click

from aigid.option_types import MANY, SHARE, Command, with_options

_OPTIONS = (
    click.option("--sure-a", type=SHARE, default=0.8, show_default=True, help="Keep pairs with head A at least so sure ..."),
    click.option("--sure-b", type=SHARE, default=0.8, show_default=True, help="... and head B, where it is AI-generated."),
    click.option("--most-per-class", type=MANY, help="Keep so many pairs of each class, the surest.  [default: all]"),
)


def sureness_options(command: Command) -> Command:
    """Give a command the options."""
    return with_options(command, _OPTIONS)


def sureness(options: dict[str, Any]) -> Any:
    """The `Sureness` of these options, which it takes out of `options`; raises UsageError for what cannot be."""
    from aigid.training.pseudo_selection import Sureness

    return Sureness(options.pop("sure_a"), options.pop("sure_b"), options.pop("most_per_class"))
