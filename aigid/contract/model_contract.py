"""The model's contract, as data beside its weights."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from aigid.contract.decision_rules import (
    FittedOn,
    MissThreshold,
    OpenSet,
    Temperatures,
    Threshold,
    check_labels,
    rows_needed,
)
from aigid.contract.inputs import ImageSpec, PromptSpec
from aigid.errors import ContractError
from aigid.records import DEFAULT_LABELS, OTHER, Mode


@dataclass(frozen=True)
class ModelContract:
    """A model as data.

    `labels` are the classes in the order of `p_source`, "real" first. `thresholds` maps a
    false-positive rate as text ("0.01") to its threshold, `miss_thresholds` a miss rate: the share
    of AI-generated images below the threshold. Without `open_set`, no source is `other`.
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
    miss_thresholds: dict[str, MissThreshold] = field(default_factory=dict)
    open_set: OpenSet | None = None
    fitted_on: FittedOn | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        check_labels(self.labels, self.open_set)
        if self.text_features < 1 or self.image_features < 1 or self.version < 1:
            raise ContractError("text_features, image_features and version must be positive")
        for name in ("thresholds", "miss_thresholds"):
            wrong = [rate for rate in getattr(self, name) if not _is_rate(rate)]
            if wrong:
                raise ContractError(f"{name}: a rate is a number from 0 to 1: got {wrong}")

    @property
    def sources(self) -> tuple[str, ...]:
        """The values that `source` can have, in the order of `p_source`."""
        return self.labels if self.open_set is None else (*self.labels, OTHER)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes of verdicts that the stored thresholds are enough for."""
        return tuple(
            mode
            for mode in Mode
            if mode.rate is None
            or (_of_rate(self.thresholds, mode.rate) and _of_rate(self.miss_thresholds, mode.rate))
        )

    def graph_fingerprint(self, part: str) -> str:
        """Return the fingerprint that the graph of a part carries."""
        return self.fingerprint if part == "fusion_heads" else self.encoders_fingerprint

    def threshold_for(self, max_fpr: float) -> Threshold:
        """Return the threshold of the false-positive rate `max_fpr`.

        Raises ContractError if that rate is not among the stored ones.
        """
        found = _of_rate(self.thresholds, max_fpr)
        if found is not None:
            return found
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

    def verdict_thresholds(self, mode: Mode, rate: float) -> tuple[Threshold, MissThreshold]:
        """Return the thresholds from which an image is `ai` in a mode, and below which `real`.

        They are those of the false-positive rate and the miss rate `rate`. Raises ContractError
        where one of them is not stored.
        """
        ai, real = _of_rate(self.thresholds, rate), _of_rate(self.miss_thresholds, rate)
        if ai is not None and real is not None:
            return ai, real
        rows = f"{rows_needed(rate):,}"
        missing = [
            f"none for a {name} rate of {rate:g}, which needs {rows} {kind} rows"
            for found, name, kind in (
                (ai, "false-positive", "real"),
                (real, "miss", "AI-generated"),
            )
            if found is None
        ]
        raise ContractError(
            f"`mode` {mode}: model {self.name} has not its thresholds: {', and '.join(missing)}: "
            "fit them on labelled rows of your own with: aigid calibrate MODEL MANIFEST"
        )

    def verdict_origin(self, mode: Mode, rate: float) -> str:
        """Return a line that says what the verdicts of a mode were measured on.

        Raises ContractError as `verdict_thresholds` does.
        """
        ai, real = self.verdict_thresholds(mode, rate)
        return (
            f"the verdicts of the mode {mode} were measured on {ai.real_rows:,} real and "
            f"{real.ai_rows:,} AI-generated rows{self._fitted_on()}: on images of another kind, "
            f"more than {rate:.1%} can be wrong"
        )

    def _fitted_on(self) -> str:
        return f" of {self.fitted_on.data}, {self.fitted_on.graphs}" if self.fitted_on else ""


_AnyThreshold = TypeVar("_AnyThreshold", Threshold, MissThreshold)


def _of_rate(thresholds: dict[str, _AnyThreshold], rate: float) -> _AnyThreshold | None:
    return next((item for text, item in thresholds.items() if float(text) == rate), None)


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
