"""What a user says about labels, and the codes of labels in memory."""

from dataclasses import dataclass

from aigid.contract import check_labels
from aigid.errors import ContractError, UsageError
from aigid.training.labels.words import Meaning, meaning_of

UNKNOWN_GENERATOR = -1
"""The `label_b` of an AI-generated row whose generator is not stated."""

OTHER_GENERATOR = -2
"""The `label_b` of an AI-generated row of a named generator that is not among the labels."""

LEFT_OUT = -3
"""The code of a row of which nothing is known. It is in no batch."""


@dataclass(frozen=True)
class LabelChoice:
    """The user's choice of labels. None means to find them.

    `label_column` says real or AI-generated, `generator_column` which generator; "" stands for no
    such column. `labels` are a model's labels, "real" first; the integers of a generator column
    without names are indexes into them. In the column `Label_B` they are the paper's where all
    labels are, so that some of these can be left out.
    """

    label_column: str | None = None
    generator_column: str | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.label_column == "" and self.generator_column == "":
            raise UsageError("`label_column` and `generator_column` are both empty: name one")
        if self.labels is not None:
            try:
                check_labels(self.labels)
            except ContractError as error:
                raise UsageError(f"`labels`: {error}") from error
            _check_names(self.labels)

    @classmethod
    def parse(
        cls,
        label_column: str | None = None,
        generator_column: str | None = None,
        labels: str | None = None,
    ) -> "LabelChoice":
        """Return the choice whose labels are written as in "real,flux,sdxl"."""
        names = None if labels is None else tuple(name.strip() for name in labels.split(","))
        return cls(label_column, generator_column, names)


def _check_names(labels: tuple[str, ...]) -> None:
    """Raise UsageError for labels that rows cannot have: they would be read as something else."""
    real, *generators = labels
    seen = {real: real}
    for name in generators:
        same = seen.setdefault(name.casefold(), name)
        if same is not name:
            raise UsageError(f"`labels`: {same} and {name} differ in case only: give one of them")
        if meaning_of(name) in (Meaning.REAL, Meaning.UNKNOWN):
            raise UsageError(
                f"`labels`: {name} is no name of a generator: rows with this value are "
                f"{'real' if meaning_of(name) is Meaning.REAL else 'of an unknown one'}"
            )
