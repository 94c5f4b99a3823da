"""The record beside a manifest of pseudo-labels: where they come from, and what was kept."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from aigid.results import ModelIdentity
from aigid.training.labels import UNKNOWN_GENERATOR
from aigid.training.pseudo_selection import SelectionConfig

RECORD_FILE = "pseudo_labels.json"


@dataclass(frozen=True)
class PseudoLabelOrigin:
    """What pseudo-labels are made from: the results folder of a scan, its model, the selection."""

    scan: str
    model: ModelIdentity
    selection: SelectionConfig

    @classmethod
    def from_json(cls, values: Any) -> "PseudoLabelOrigin":
        """Return the origin in a record's JSON; raises ValueError where it is damaged."""
        try:
            selection = SelectionConfig(values["head_a"], values["head_b"], values["max_per_class"])
            return cls(values["scan"], ModelIdentity(**values["model"]), selection)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a record of pseudo-labels: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """Return the origin as it stands in the record."""
        return {
            "scan": self.scan,
            "model": asdict(self.model),
            "head_a": self.selection.min_confidence_a,
            "head_b": self.selection.min_confidence_b,
            "max_per_class": self.selection.max_per_class,
        }

    def differences(self, other: "PseudoLabelOrigin") -> list[str]:
        """Name what differs between two origins; parameters are in backticks."""
        found = [name for name in ("scan", "model") if getattr(self, name) != getattr(other, name)]
        before, now = asdict(self.selection), asdict(other.selection)
        return found + [f"`{name}`" for name in now if before[name] != now[name]]


@dataclass(frozen=True)
class PseudoLabelRecord:
    """What a finished run kept of `rows` scanned rows.

    `classes` counts the kept rows by class, and `others` the confident ones that are not kept
    because their source is "other". `precision` is the fraction of kept rows whose known
    label agrees, and `precisions` the same by class; both are None where no label is known.
    """

    origin: PseudoLabelOrigin
    rows: int
    kept: int
    classes: dict[str, int]
    others: int
    precision: float | None
    precisions: dict[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return the content of pseudo_labels.json."""
        record = {
            **self.origin.to_json(),
            "rows": self.rows,
            "kept": self.kept,
            "classes": self.classes,
            "others": self.others,
        }
        if self.precision is not None:
            record |= {"precision": self.precision, "precisions": self.precisions}
        return record


class KeptCounter:
    """Counts kept rows by class, and how many of them agree with a known label."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._kept: Counter[int] = Counter()
        self._known: Counter[int] = Counter()
        self._right: Counter[int] = Counter()

    def add(self, label: int, truth: int | None) -> None:
        """Count one kept row; `truth` is the code of its known label, or None.

        That an image is AI-generated, by a generator that is not stated, refutes "real" only.
        """
        self._kept[label] += 1
        if truth is not None and not (truth == UNKNOWN_GENERATOR and label > 0):
            self._known[label] += 1
            self._right[label] += label == truth

    def record(self, origin: PseudoLabelOrigin, rows: int, others: int) -> PseudoLabelRecord:
        """Return the record of what was counted."""
        known = self._known.total()
        precisions = {
            self._labels[label]: self._right[label] / count
            for label, count in sorted(self._known.items())
        }
        return PseudoLabelRecord(
            origin,
            rows,
            kept=self._kept.total(),
            classes={name: self._kept[label] for label, name in enumerate(self._labels)},
            others=others,
            precision=self._right.total() / known if known else None,
            precisions=precisions if known else None,
        )
