"""What label columns hold that is refused, or only fits together with other values."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from aigid.errors import ManifestError
from aigid.training.labels.names import MOST_NAMES, GeneratorNames

# A column found by its usual name with more values than this, nearly all different, holds no names.
_MANY_NAMES, _ROWS_PER_NAME = 100, 5
_LABEL_HELP = (
    "a label column says real or AI-generated (0 and 1, true and false, real and fake), or real "
    "and the generator's name: name the right one with `label_column`, or give an empty "
    "`label_column` where the manifest has none"
)
_GENERATOR_HELP = (
    "a generator column holds names, or integers that `labels` names: name the right one with "
    "`generator_column`, say what the integers are with `labels`, or give an empty "
    "`generator_column` where the manifest has none"
)


@dataclass
class Findings:
    """What the columns of one kind hold, over all files.

    `unfit` has the values that no rule fits, `names` the names of generators, each with the place
    where it was found first. `has_real` tells whether a value says real.
    """

    unfit: dict[object, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    has_real: bool = False

    @property
    def are_too_many(self) -> bool:
        """Whether there are so many values that they cannot be labels."""
        return max(len(self.unfit), len(self.names)) > MOST_NAMES


def check_label_column(findings: Findings, names: GeneratorNames) -> None:
    """Raise ManifestError where no rule fits a value of a column that says real or AI-generated.

    Names of generators fit where a row is real, and where they are among the labels: other names
    may be classes of anything.
    """
    unknown = {name: place for name, place in findings.names.items() if not names.is_label(name)}
    if findings.are_too_many or (unknown and not findings.has_real):
        _refuse(_LABEL_HELP, unknown, findings.unfit)
    if findings.unfit:
        _refuse(_LABEL_HELP, findings.unfit)


def check_generator_column(findings: Findings, rows: int, *, is_chosen: bool) -> None:
    """Raise ManifestError where no rule fits a value of a generator column.

    A column that was found by its usual name may hold something else: of many names, each has some
    of the rows.
    """
    few_rows = len(findings.names) > max(_MANY_NAMES, rows / _ROWS_PER_NAME)
    if findings.are_too_many or (few_rows and not is_chosen):
        _refuse(_GENERATOR_HELP, findings.names, findings.unfit)
    if findings.unfit:
        _refuse(_GENERATOR_HELP, findings.unfit)


def refuse_type(place: str, kind: object, *, is_generator: bool) -> NoReturn:
    """Raise ManifestError for a column whose type cannot hold labels."""
    help_text = _GENERATOR_HELP if is_generator else _LABEL_HELP
    raise ManifestError(f"{place} is {kind}, which holds no labels: {help_text}")


def _refuse(help_text: str, *found: Mapping[Any, str]) -> NoReturn:
    values = {value: place for places in found for value, place in places.items()}
    place = next(iter(values.values()))
    raise ManifestError(f"{place}: no rule fits {_five(values)}: {help_text}")


def _five(values: Collection[object]) -> str:
    """Return five of the values, and how many there are."""
    shown = ", ".join(_short(value) for value in list(values)[:5])
    if len(values) <= 5:
        return f"the value {shown}" if len(values) == 1 else f"the {len(values)} values {shown}"
    count = f"more than {MOST_NAMES:,}" if len(values) > MOST_NAMES else f"{len(values):,}"
    return f"{count} different values, as {shown}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}...{text[0]}"
