"""The options that say which pairs become pseudo-labels, for the commands that write some."""

from typing import Any

import click

from aigid.cli.option_types import MANY, SHARE, Command, with_options

_OPTIONS = (
    click.option(
        "--min-confidence-a",
        type=SHARE,
        default=0.8,
        show_default=True,
        help="Keep pairs with head A at least so sure ...",
    ),
    click.option(
        "--min-confidence-b",
        type=SHARE,
        default=0.8,
        show_default=True,
        help="... and head B, where it is AI-generated.",
    ),
    click.option(
        "--max-per-class",
        type=MANY,
        help="Keep so many pairs of each class, the surest.  [default: all]",
    ),
)


def confidence_options(command: Command) -> Command:
    """Give a command the options."""
    return with_options(command, _OPTIONS)


def sureness(options: dict[str, Any]) -> Any:
    """The `SelectionConfig` of these options, which it takes out of `options`; raises UsageError for what cannot be."""
    from aigid.training.pseudo_selection import SelectionConfig

    return SelectionConfig(
        options.pop("min_confidence_a"),
        options.pop("min_confidence_b"),
        options.pop("max_per_class"),
    )
