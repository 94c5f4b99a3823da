"""The parity report: how far each artifact is from torch in float32, and which limits it breaks."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigid.errors import BuildError

PARITY_MD, PARITY_JSON = "parity.md", "parity.json"


@dataclass(frozen=True)
class Limits:
    """How far an artifact may be from float32; None for no limit.

    `probability` limits the differences of p_ai and p_source, `equal_decisions` the share of rows
    with the same decision, `macro_f1_loss` the loss of either task on the labels of the validation
    manifest, and `batch` the change of a row's p_source with the rest of its batch.
    """

    probability: float | None
    equal_decisions: float
    macro_f1_loss: float | None
    batch: float = 1e-5


# Half precision has steps of 1/2048 of a value. With DINOv2-S and MiniLM, trained on simulated
# rows, a probability moved by up to 5.7e-3 in 1,000 rows, and no decision did. A kernel may round
# at another place for another number of rows, as ONNX Runtime's do: that moved it by up to 7.5e-4.
LIMITS = {
    "fp32": Limits(probability=1e-4, equal_decisions=0.998, macro_f1_loss=None),
    "fp16": Limits(probability=2e-2, equal_decisions=0.998, macro_f1_loss=None, batch=5e-3),
    "int8": Limits(probability=None, equal_decisions=0.99, macro_f1_loss=0.005),
}


@dataclass(frozen=True)
class Difference:
    """The largest and mean |difference| from a reference, and the mean |value| of the reference."""

    max: float
    mean: float
    scale: float


@dataclass(frozen=True)
class MacroF1:
    """Macro-F1 of tasks A and B, and how many rows are decided rightly, of those with labels.

    Macro-F1 is None where fewer than two classes have rows.
    """

    a: float | None
    b: float | None
    right_a: int
    right_b: int

    def __str__(self) -> str:
        return ", ".join("-" if one is None else f"{one:.4f}" for one in (self.a, self.b))


@dataclass(frozen=True)
class Parity:
    """One artifact compared with torch.

    `equal_a` and `equal_b` are shares of rows with the same decision. Neither they nor macro-F1
    count the open set: it is fitted to the graphs that are published. `batch` is the largest change
    of a row's p_source between the row alone and the row in a batch.
    """

    text_features: Difference
    image_features: Difference
    p_ai: Difference
    p_source: Difference
    equal_a: float
    equal_b: float
    macro_f1: MacroF1 | None
    batch: float


@dataclass(frozen=True)
class ParityReport:
    """All artifacts of one model on the same rows; macro-F1 only if rows have labels."""

    model: str
    fingerprint: str
    rows: int
    reference_macro_f1: MacroF1 | None
    artifacts: dict[str, Parity]

    def shortcomings(self, limits: Mapping[str, Limits]) -> list[str]:
        """Return a sentence for each limit that is broken; `limits` are by precision."""
        return [
            f"{precision}: {text}"
            for precision, parity in self.artifacts.items()
            for text in _broken_limits(parity, limits[precision], self)
        ]

    def to_json(self, limits: Mapping[str, Limits]) -> dict[str, Any]:
        """Return the report and the limits of its artifacts as `parity.json` holds them."""
        used = {name: dataclasses.asdict(limits[name]) for name in self.artifacts}
        return dataclasses.asdict(self) | {"limits": used}


def write_report(report: ParityReport, limits: Mapping[str, Limits], folder: Path) -> None:
    """Write `parity.md` and `parity.json` into `folder`."""
    text = json.dumps(report.to_json(limits), indent=2) + "\n"
    (folder / PARITY_JSON).write_text(text, encoding="utf-8")
    (folder / PARITY_MD).write_text(report_text(report), encoding="utf-8")


def report_text(report: ParityReport) -> str:
    """Return the report as Markdown."""
    columns = (
        "text features",
        "image features",
        "p_ai",
        "p_source",
        "equal A",
        "equal B",
        "macro-F1 A, B",
        "batch effect",
    )
    lines = [
        f"# Parity of {report.model}",
        "",
        f"Each artifact of model {report.fingerprint[:12]} compared with the checkpoint in torch "
        f"(float32), on {report.rows} rows.",
        "",
        "- Features: largest and mean absolute difference, and torch's mean absolute value.",
        "- p_ai and p_source: largest and mean absolute difference.",
        "- Equal A and B: the share of rows with the same decision, without the open set.",
        "- Batch effect: the largest change of p_source between a row alone and in a batch.",
        "",
        f"| | {' | '.join(columns)} |",
        f"|{' --- |' * (1 + len(columns))}",
        f"| torch | | | | | | | {macro_f1_text(report.reference_macro_f1)} | |",
        *(_row(precision, parity) for precision, parity in report.artifacts.items()),
    ]
    return "\n".join(lines) + "\n"


def _row(precision: str, parity: Parity) -> str:
    features = (
        f"{one.max:.1e}, {one.mean:.1e} of {one.scale:.2g}"
        for one in (parity.text_features, parity.image_features)
    )
    probabilities = (f"{one.max:.1e}, {one.mean:.1e}" for one in (parity.p_ai, parity.p_source))
    equal = (f"{share:.2%}" for share in (parity.equal_a, parity.equal_b))
    cells = [
        precision,
        *features,
        *probabilities,
        *equal,
        macro_f1_text(parity.macro_f1),
        f"{parity.batch:.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def macro_f1_text(macro_f1: MacroF1 | None) -> str:
    """Return macro-F1 of both tasks as the reports show it."""
    return "no labels" if macro_f1 is None else str(macro_f1)


def refuse_shortcomings(report: ParityReport, limits: Mapping[str, Limits]) -> None:
    """Raise BuildError if any artifact breaks a limit."""
    shortcomings = report.shortcomings(limits)
    if shortcomings:
        raise BuildError(
            f"{report.model}: too far from float32 on {report.rows} rows: {'; '.join(shortcomings)}"
        )


def _broken_limits(parity: Parity, limits: Limits, report: ParityReport) -> Iterator[str]:
    for name, one in (("p_ai", parity.p_ai), ("p_source", parity.p_source)):
        # Written so that NaN breaks every limit.
        if limits.probability is not None and not one.max <= limits.probability:
            yield (
                f"{name} differs from float32's by up to {one.max:.2g}; "
                f"the limit is {limits.probability:g}"
            )
    for task, equal in (("A", parity.equal_a), ("B", parity.equal_b)):
        # Counted in whole rows, rounded up: of few rows, a single difference means little.
        allowed = math.ceil((1 - limits.equal_decisions) * report.rows - 1e-9)
        if round((1 - equal) * report.rows) > allowed:
            yield (
                f"{equal:.2%} of the decisions of task {task} equal float32's; "
                f"the limit is {limits.equal_decisions:.1%}"
            )
    if not parity.batch <= limits.batch:
        yield (
            f"a row's p_source changes by up to {parity.batch:.2g} with the rest of its batch; "
            f"the limit is {limits.batch:g}"
        )
    if parity.macro_f1 is not None and report.reference_macro_f1 is not None:
        yield from _macro_f1_losses(parity.macro_f1, report.reference_macro_f1, limits)


def _macro_f1_losses(found: MacroF1, reference: MacroF1, limits: Limits) -> Iterator[str]:
    for task, before, after, lost in (
        ("A", reference.a, found.a, reference.right_a - found.right_a),
        ("B", reference.b, found.b, reference.right_b - found.right_b),
    ):
        if limits.macro_f1_loss is None or before is None or after is None:
            continue
        # Of a class with few rows, a single row can cost more than the limit, and means little.
        if before - after > limits.macro_f1_loss and lost > 1:
            yield (
                f"macro-F1 of task {task} falls from {before:.4f} to {after:.4f}; "
                f"the limit is a loss of {limits.macro_f1_loss:g}"
            )
