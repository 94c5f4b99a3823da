"""The model's contract, as data beside its weights."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from aigid.contract.decision_rules import (
    FittedOn,
    OpenSet,
    Temperatures,
    Threshold,
    check_labels,
    rows_needed,
)
from aigid.contract.inputs import ImageSpec, PromptSpec
from aigid.errors import ContractError
from aigid.records import DEFAULT_LABELS, OTHER


@dataclass(frozen=True)
class ModelContract:
    """A model as data.

    `labels` are the classes in the order of `p_source`, "real" first. `thresholds` maps a
    false-positive rate as text ("0.01") to its threshold. Without `open_set`, no source is `other`.
    `encoders_fingerprint` is that of both encoders and of what they read, `fingerprint` that of the
    whole model: new heads change the second only.
    """

    name: str
    notice: str
    text_features: int
    image_features: int
    fingerprint: str
    encoders_fingerprint: str
    version: int = 1
    cpu_precision: str = "int8"
    image: ImageSpec = field(default_factory=ImageSpec)
    prompt: PromptSpec = field(default_factory=PromptSpec)
    labels: tuple[str, ...] = DEFAULT_LABELS
    temperatures: Temperatures = field(default_factory=Temperatures)
    thresholds: dict[str, Threshold] = field(default_factory=dict)
    open_set: OpenSet | None = None
    fitted_on: FittedOn | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        check_labels(self.labels, self.open_set)
        if self.text_features < 1 or self.image_features < 1 or self.version < 1:
            raise ContractError("text_features, image_features and version must be positive")
        wrong = [rate for rate in self.thresholds if not _is_rate(rate)]
        if wrong:
            raise ContractError(
                f"thresholds: a false-positive rate is a number from 0 to 1: got {wrong}"
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """The values that `source` can have, in the order of `p_source`."""
        return self.labels if self.open_set is None else (*self.labels, OTHER)

    def graph_fingerprint(self, part: str) -> str:
        """Return the fingerprint that the graph of a part carries."""
        return self.fingerprint if part == "fusion_heads" else self.encoders_fingerprint

    def threshold_for(self, max_fpr: float) -> Threshold:
        """Return the threshold of the false-positive rate `max_fpr`.

        Raises ContractError if that rate is not among the stored ones.
        """
        for rate, threshold in self.thresholds.items():
            if float(rate) == max_fpr:
                return threshold
        known = [
            f"{rate} ({item.real_rows:,} real rows)"
            for rate, item in sorted(self.thresholds.items(), key=lambda pair: float(pair[0]))
        ]
        raise ContractError(
            f"`max_fpr` {max_fpr:g}: model {self.name} has no threshold for this false-positive "
            f"rate: it has {', '.join(known) or 'none'}{self._fitted_on() if known else ''}"
            f"{_how_to_fit(max_fpr)}"
        )

    def threshold_origin(self, max_fpr: float) -> str:
        """Return a line that says what the threshold of a rate was measured on.

        Raises ContractError as `threshold_for` does.
        """
        return (
            f"the threshold for a false-positive rate of {max_fpr:g} was measured on "
            f"{self.threshold_for(max_fpr).real_rows:,} real rows{self._fitted_on()}: "
            "on images of another kind the rate can be higher"
        )

    def _fitted_on(self) -> str:
        return f" of {self.fitted_on.data}, {self.fitted_on.graphs}" if self.fitted_on else ""


def _how_to_fit(max_fpr: float) -> str:
    if not 0 < max_fpr < 1:
        return ""
    return (
        f"; {max_fpr:g} needs {rows_needed(max_fpr):,} real rows: fit it on labelled rows of your "
        f"own with: aigid calibrate MODEL MANIFEST --max-fpr {max_fpr:g}"
    )


def _is_rate(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def fingerprint_of(parts: Iterable[bytes], description: dict[str, Any]) -> str:
    """Return the SHA-256 of some bytes and of a description that JSON can hold."""
    digest = hashlib.sha256()
    for part in chain(parts, [json.dumps(description, sort_keys=True).encode()]):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
