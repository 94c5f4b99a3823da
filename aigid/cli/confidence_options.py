"""The options that select pseudo-labels, for the commands that write some."""

from typing import TYPE_CHECKING, Any

from aigid.cli.command import Function, options_under, with_options
from aigid.cli.option_types import FRACTION, POSITIVE_INT

if TYPE_CHECKING:
    from aigid.training.pseudo_selection import SelectionConfig

_option = options_under("Pseudo-labels")

_OPTIONS = (
    _option(
        "--min-confidence-a",
        type=FRACTION,
        default=0.8,
        show_default=True,
        help="Keep pairs on which head A (real or AI-generated) has this confidence or more. "
        "At least 0.5.",
    ),
    _option(
        "--min-confidence-b",
        type=FRACTION,
        default=0.8,
        show_default=True,
        help="Of the AI-generated pairs, keep those on which head B (the generator) has this "
        "confidence or more.",
    ),
    _option(
        "--max-per-class",
        type=POSITIVE_INT,
        help="Keep at most this many pairs of each class, the most confident.  [default: all]",
    ),
)


def confidence_options(function: Function) -> Function:
    """Give a command the options."""
    return with_options(function, _OPTIONS)


def selection_config(options: dict[str, Any]) -> "SelectionConfig":
    """Return the SelectionConfig of these options, and remove them from `options`.

    Raises UsageError for values that contradict each other or are out of range.
    """
    from aigid.training.pseudo_selection import SelectionConfig

    return SelectionConfig(
        options.pop("min_confidence_a"),
        options.pop("min_confidence_b"),
        options.pop("max_per_class"),
    )
