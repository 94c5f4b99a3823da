"""How far each artifact is from torch in float32, on real rows of a manifest; and whether that is near enough to publish."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from aigid.contract import load_contract
from aigid.decisions import DEFAULT_THRESHOLD, decide_ai, decide_source
from aigid.errors import BuildError
from aigid.export.checkpoint_to_onnx import HeadsPart
from aigid.export.sample_rows import SampleRow
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch, pad_to_bucket
from aigid.scorers.tensors import PARTS
from aigid.training.checkpoint import Checkpoint
from aigid.training.metrics import Labelled, all_metrics

Floats = npt.NDArray[np.float32]

PARITY_ROWS = 256
PARITY_MD, PARITY_JSON = "parity.md", "parity.json"
_BATCH_ROWS = 16
_ALONE_ROWS = 8


@dataclass(frozen=True)
class Limits:
    """How far an artifact may be from float32; None where that is not limited."""

    probability: float | None
    equal_decisions: float
    macro_f1_loss: float | None
    batch: float = 1e-5


LIMITS = {
    "fp32": Limits(probability=1e-4, equal_decisions=0.998, macro_f1_loss=None),
    "fp16": Limits(probability=5e-3, equal_decisions=0.998, macro_f1_loss=None),
    "int8": Limits(probability=None, equal_decisions=0.99, macro_f1_loss=0.005),
}


@dataclass(frozen=True)
class Answers:
    """What a model says of N rows: both encoders' features, `p_ai` [N] and `p_source` [N, 6]."""

    text_features: Floats
    image_features: Floats
    p_ai: Floats
    p_source: Floats

    @property
    def is_ai(self) -> npt.NDArray[np.bool_]:
        """Task A's decisions."""
        return decide_ai(self.p_ai, DEFAULT_THRESHOLD)

    @property
    def source(self) -> npt.NDArray[np.int32]:
        """Task B's decisions."""
        return decide_source(self.is_ai, self.p_source)


@dataclass(frozen=True)
class Difference:
    """Of two arrays: the greatest and the mean |delta|, and the mean |value| of the reference to hold them against."""

    max: float
    mean: float
    scale: float


@dataclass(frozen=True)
class Parity:
    """One artifact beside torch. `batch` is the greatest |delta| of p_source between rows alone and in a batch."""

    text_features: Difference
    image_features: Difference
    p_ai: Difference
    p_source: Difference
    equal_a: float
    equal_b: float
    macro_f1: dict[str, float] | None
    batch: float


@dataclass(frozen=True)
class ParityReport:
    """All artifacts of one model, measured on the same rows; macro-F1 only where the rows have labels."""

    model: str
    fingerprint: str
    rows: int
    reference_macro_f1: dict[str, float] | None
    artifacts: dict[str, Parity]

    def shortcomings(self, limits: Mapping[str, Limits]) -> list[str]:
        """What is beyond its limit, a sentence each; `limits` by precision."""
        found: list[str] = []
        for precision, parity in self.artifacts.items():
            found += [f"{precision}: {text}" for text in _beyond(parity, limits[precision], self)]
        return found


class Model(Protocol):
    """Something that answers as the checkpoint does."""

    def answers(self, images: Pixels, tokens: TokenBatch) -> Answers:
        """What it says of one batch."""


def measure_parity(
    checkpoint: Checkpoint,
    artifacts: Mapping[str, Callable[[], Model]],
    rows: Iterable[SampleRow],
) -> ParityReport:
    """Compare `artifacts`, each loaded when its turn comes, with torch on the rows of a manifest."""
    ordered = sorted(rows, key=lambda row: row.input_ids.shape[1])
    batches = list(_batches(ordered, checkpoint.info.prompt.buckets))
    reference = _joined(torch_answers(checkpoint, batches))
    labels = [row.labels for row in ordered]
    measured = {}
    for precision, load in artifacts.items():
        model = load()
        answers = _joined(model.answers(*batch) for batch in batches)
        measured[precision] = _parity(reference, answers, labels, _batch_effect(model, batches[0]))
    info = checkpoint.info
    return ParityReport(
        info.name, checkpoint.fingerprint, len(ordered), _macro_f1(reference, labels), measured
    )


def loaders(artifacts: Mapping[str, Mapping[str, Path]]) -> dict[str, Callable[[], Model]]:
    """How to load each artifact, from its graphs by part."""
    return {precision: partial(GraphModel, graphs) for precision, graphs in artifacts.items()}


class GraphModel:
    """The three graphs of one artifact, on all cores."""

    def __init__(self, graphs: Mapping[str, Path]) -> None:
        """Load the graphs, by part."""
        self._sessions = {
            part: ort.InferenceSession(graphs[part], providers=["CPUExecutionProvider"])
            for part in PARTS
        }

    def answers(self, images: Pixels, tokens: TokenBatch) -> Answers:
        """What the graphs say of one batch."""
        text = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        (text_features,) = self._sessions["bert"].run(["text_features"], text)
        (image_features,) = self._sessions["clip_vision"].run(["image_features"], {"image": images})
        features = {"text_features": text_features, "image_features": image_features}
        p_ai, p_source = self._sessions["fusion_heads"].run(["p_ai", "p_source"], features)
        return Answers(text_features, image_features, p_ai[:, 0], p_source)


@torch.no_grad()
def torch_answers(
    checkpoint: Checkpoint, batches: Iterable[tuple[Pixels, TokenBatch]]
) -> Iterator[Answers]:
    """What the checkpoint itself says, batch by batch, in float32."""
    model, heads = checkpoint.model, HeadsPart(checkpoint.model, checkpoint.info.temperatures)
    for images, tokens in batches:
        text = model.text_features(
            torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
        )
        image = model.image_features(torch.from_numpy(images))
        p_ai, p_source = heads(text, image)
        yield Answers(text.numpy(), image.numpy(), p_ai[:, 0].numpy(), p_source.numpy())


def write_report(report: ParityReport, limits: Mapping[str, Limits], folder: Path) -> None:
    """Write `parity.md` and `parity.json`, which has the limits too."""
    values = dataclasses.asdict(report) | {
        "limits": {name: dataclasses.asdict(limits[name]) for name in report.artifacts}
    }
    (folder / PARITY_JSON).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    (folder / PARITY_MD).write_text(report_text(report), encoding="utf-8")


def report_text(report: ParityReport) -> str:
    """The report as Markdown."""
    reference = report.reference_macro_f1
    lines = [
        f"# Parity of {report.model}",
        "",
        f"Each artifact beside torch in float32, on {report.rows} rows. Model {report.fingerprint[:12]}.",
        "Features: greatest and mean |delta|, beside the mean |value|. Equal: the share of rows with the same decision.",
        "",
        "| | text features | image features | p_ai | p_source | equal A | equal B | macro-F1 A, B | alone or in a batch |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| torch | | | | | | | {macro_f1_text(reference)} | |",
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


def macro_f1_text(macro_f1: Mapping[str, float] | None) -> str:
    """Macro-F1 of both tasks, as the reports show it."""
    return "no labels" if macro_f1 is None else f"{macro_f1['a']:.4f}, {macro_f1['b']:.4f}"


def _batches(
    rows: Sequence[SampleRow], buckets: Sequence[int]
) -> Iterator[tuple[Pixels, TokenBatch]]:
    for start in range(0, len(rows), _BATCH_ROWS):
        some = rows[start : start + _BATCH_ROWS]
        ids = [row.input_ids[0].tolist() for row in some]
        bucket = next(size for size in buckets if size >= max(map(len, ids)))
        yield np.concatenate([row.image for row in some]), pad_to_bucket(ids, bucket)


def _joined(parts: Iterable[Answers]) -> Answers:
    rows = [dataclasses.astuple(part) for part in parts]
    return Answers(*(np.concatenate(columns) for columns in zip(*rows, strict=True)))


def _parity(
    reference: Answers,
    answers: Answers,
    labels: Sequence[tuple[int, int] | None],
    batch_effect: float,
) -> Parity:
    names = ("text_features", "image_features", "p_ai", "p_source")
    differences = {
        name: _difference(getattr(reference, name), getattr(answers, name)) for name in names
    }
    equal_a, equal_b = (
        np.mean(answers.is_ai == reference.is_ai),
        np.mean(answers.source == reference.source),
    )
    macro_f1 = _macro_f1(answers, labels)
    return Parity(
        **differences,
        equal_a=float(equal_a),
        equal_b=float(equal_b),
        macro_f1=macro_f1,
        batch=batch_effect,
    )


def _difference(reference: Floats, found: Floats) -> Difference:
    delta = np.abs(found - reference)
    return Difference(float(delta.max()), float(delta.mean()), float(np.abs(reference).mean()))


def _batch_effect(model: Model, batch: tuple[Pixels, TokenBatch]) -> float:
    images, tokens = batch
    together, found = model.answers(images, tokens).p_source, 0.0
    for row in range(min(len(images), _ALONE_ROWS)):
        one = slice(row, row + 1)
        alone = model.answers(
            images[one], TokenBatch(tokens.input_ids[one], tokens.attention_mask[one])
        ).p_source
        found = max(found, float(np.abs(alone - together[one]).max()))
    return found


def _macro_f1(
    answers: Answers, labels: Sequence[tuple[int, int] | None]
) -> dict[str, float] | None:
    known = [label for label in labels if label is not None]
    if len(known) < len(labels):
        return None
    label_a, label_b = np.array(known, np.int64).T
    figures = all_metrics(Labelled(label_a, label_b, answers.p_ai, answers.p_source))
    return {task: float(figures[task]["macro_f1"]) for task in ("a", "b")}


def _beyond(parity: Parity, limits: Limits, report: ParityReport) -> Iterator[str]:
    reference, rows = report.reference_macro_f1, report.rows
    for name, one in (("p_ai", parity.p_ai), ("p_source", parity.p_source)):
        # Written so that a NaN is beyond every limit.
        if limits.probability is not None and not one.max <= limits.probability:
            yield f"{name} is up to {one.max:.2g} from float32's; the limit is {limits.probability:g}"
    for task, equal in (("A", parity.equal_a), ("B", parity.equal_b)):
        # In whole rows, rounded up: of few rows, one that differs says little.
        if round((1 - equal) * rows) > math.ceil((1 - limits.equal_decisions) * rows - 1e-9):
            yield f"{equal:.2%} of task {task}'s decisions are float32's; the limit is {limits.equal_decisions:.1%}"
    if not parity.batch <= limits.batch:
        yield f"a row's answer moves by {parity.batch:.2g} with what shares its batch; the limit is {limits.batch:g}"
    if limits.macro_f1_loss is not None and parity.macro_f1 is not None and reference is not None:
        for task, before in reference.items():
            if before - parity.macro_f1[task] > limits.macro_f1_loss:
                found = f"{before:.4f} to {parity.macro_f1[task]:.4f}"
                yield f"macro-F1 of task {task.upper()} falls from {found}; the limit is a loss of {limits.macro_f1_loss:g}"


def refuse_shortcomings(report: ParityReport, limits: Mapping[str, Limits]) -> None:
    """Raise BuildError where any artifact is beyond its limits."""
    shortcomings = report.shortcomings(limits)
    if shortcomings:
        raise BuildError(
            f"not near enough to float32 on {report.rows} rows: {'; '.join(shortcomings)}"
        )


def artifacts_of(repository: Path) -> dict[str, dict[str, Path]]:
    """The graphs of a repository's current version by precision and part."""
    version = str(load_contract(repository).version)
    found = {
        name: {part: repository / part / version / f"model.{name}.onnx" for part in PARTS}
        for name in LIMITS
    }
    return {
        name: graphs
        for name, graphs in found.items()
        if all(path.is_file() for path in graphs.values())
    }
