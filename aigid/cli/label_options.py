"""The options that say where labels are, for the commands that read labelled manifests."""

from typing import TYPE_CHECKING, Any

from aigid.cli.command import Function, options_under, with_options

if TYPE_CHECKING:
    from aigid.training.labels import LabelChoice

_labels = options_under("Labels")
_COLUMNS = (
    _labels(
        "--label-column",
        metavar="NAME",
        help="Column that says real or AI-generated; '' for none.  "
        "[default: found by its usual names]",
    ),
    _labels(
        "--generator-column",
        metavar="NAME",
        help="Column that names the generator; '' for none.  [default: found by its usual names]",
    ),
)

LABEL_OPTIONS = (
    *_COLUMNS,
    _labels(
        "--labels",
        metavar="NAME,...",
        help="What integers in the generator column stand for, as in real,flux,sdxl.",
    ),
)
"""The options of a command that reads with a model's labels, or that only counts classes."""

MODEL_LABEL_OPTIONS = (
    *_COLUMNS,
    _labels(
        "--labels",
        metavar="NAME,...",
        help="The model's labels, as in real,flux,sdxl; integers in the generator column are "
        "indexes into them.  [default: those of the training rows]",
    ),
)
"""The options of a command that trains a model."""


def label_options(function: Function) -> Function:
    """Give a command LABEL_OPTIONS."""
    return with_options(function, LABEL_OPTIONS)


def label_choice(options: dict[str, Any]) -> "LabelChoice":
    """Return the LabelChoice of these options, and remove them from `options`.

    Raises UsageError for labels that a model cannot have.
    """
    from aigid.training.labels import LabelChoice

    names = ("label_column", "generator_column", "labels")
    return LabelChoice.parse(**{name: options.pop(name) for name in names})
