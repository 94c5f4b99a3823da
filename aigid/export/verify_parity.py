"""Compare each artifact with torch in float32, on real rows of a manifest."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from aigid.contract import ModelContract, load_contract
from aigid.decisions import DEFAULT_THRESHOLD, decide_ai, decide_source
from aigid.errors import CheckpointError
from aigid.export.checkpoint_to_onnx import HeadsPart
from aigid.export.fit_on_graphs import with_decisions
from aigid.export.new_heads import read_heads
from aigid.export.parity_report import LIMITS, Difference, MacroF1, Parity, ParityReport
from aigid.export.sample_rows import RowSource, SampleRow
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch, pad_to_bucket
from aigid.scorers import PARTS
from aigid.training.checkpoint import Checkpoint, load_checkpoint
from aigid.training.labels import LabelChoice
from aigid.training.metrics import LabelledScores, compute_metrics

Floats = npt.NDArray[np.float32]
# Codes of labels, as in LabelledScores.label_b; None where nothing is known.
Labels = Sequence[int | None]

# In as many rows the limits mean something: 10 other decisions are 1 %, and one row of a class with
# 100 rows costs less macro-F1 than the limit.
PARITY_ROWS = 1000
_BATCH_ROWS = 16
_ALONE_ROWS = 8


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs for N rows: the encoders' features, and what `Scores` has."""

    text_features: Floats
    image_features: Floats
    p_ai: Floats
    p_source: Floats
    known_score: Floats

    @property
    def is_ai(self) -> npt.NDArray[np.bool_]:
        """The decisions of task A."""
        return decide_ai(self.p_ai, DEFAULT_THRESHOLD)

    @property
    def source(self) -> npt.NDArray[np.int32]:
        """The decisions of task B without the open set.

        Its constants are fitted to the scores of one artifact: for the others it is no standard.
        """
        return decide_source(self.is_ai, self.p_source, self.known_score, None)


class Model(Protocol):
    """An artifact that can be compared with torch."""

    def run(self, images: Pixels, tokens: TokenBatch) -> ModelOutputs:
        """Return the outputs for one batch."""


class GraphModel:
    """The three graphs of one artifact, in ONNX Runtime on all cores."""

    def __init__(self, graphs: Mapping[str, Path]) -> None:
        self._sessions = {
            part: ort.InferenceSession(graphs[part], providers=["CPUExecutionProvider"])
            for part in PARTS
        }

    def run(self, images: Pixels, tokens: TokenBatch) -> ModelOutputs:
        """Return the outputs for one batch."""
        text = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        (text_features,) = self._sessions["bert"].run(["text_features"], text)
        (image_features,) = self._sessions["clip_vision"].run(["image_features"], {"image": images})
        features = {"text_features": text_features, "image_features": image_features}
        names = ["p_ai", "p_source", "known_score"]
        p_ai, p_source, known_score = self._sessions["fusion_heads"].run(names, features)
        return ModelOutputs(text_features, image_features, p_ai[:, 0], p_source, known_score[:, 0])


def graph_loaders(artifacts: Mapping[str, Mapping[str, Path]]) -> dict[str, Callable[[], Model]]:
    """Return a function for each artifact that loads it from its graphs by part."""
    return {precision: partial(GraphModel, graphs) for precision, graphs in artifacts.items()}


def artifacts_of(repository: Path) -> dict[str, dict[str, Path]]:
    """Return the graphs of a repository's current version, by precision and part."""
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


def measure_parity(
    checkpoint: Checkpoint,
    artifacts: Mapping[str, Callable[[], Model]],
    rows: Iterable[SampleRow],
) -> ParityReport:
    """Compare artifacts with torch on the same rows; each is loaded only for its own turn."""
    info = checkpoint.info
    batches, labels = _batches_and_labels(rows, info.prompt.buckets)
    reference = _concatenated(torch_outputs(checkpoint, batches))
    measured = {}
    for precision, load in artifacts.items():
        model = load()
        outputs = _concatenated(model.run(*batch) for batch in batches)
        effect = _batch_effect(model, batches[0])
        measured[precision] = _parity((reference, outputs), labels, effect, info.labels)
    macro_f1 = _macro_f1(reference, labels, info.labels)
    return ParityReport(info.name, checkpoint.fingerprint, len(labels), macro_f1, measured)


def measure_repository(
    checkpoint: Path, repository: Path, manifest: str, rows: int = PARITY_ROWS
) -> ParityReport:
    """Compare the graphs of a repository's current version with a checkpoint folder.

    The checkpoint decides with the repository's temperatures and open set. Labels of the manifest
    are found by their usual names. Raises AigidError if the folders or the manifest cannot be used,
    or if the repository was not built from this checkpoint.
    """
    loaded, contract = load_checkpoint(checkpoint), load_contract(repository)
    published = _published(loaded, repository, contract)
    if published.fingerprint != contract.fingerprint:
        raise CheckpointError(
            f"{repository}: not built from {checkpoint}: its model is {contract.fingerprint}, and "
            f"the checkpoint's is {published.fingerprint} with the same temperatures"
        )
    source = RowSource(loaded, manifest, LabelChoice())
    loaders = graph_loaders(artifacts_of(repository))
    return measure_parity(published, loaders, source.sample(rows, fewest=1))


def _published(loaded: Checkpoint, repository: Path, contract: ModelContract) -> Checkpoint:
    """Return the checkpoint with what a build or a calibration has fitted anew."""
    fitted = dict(read_heads(repository, contract).named_buffers())
    for name, value in loaded.model.named_buffers():
        if name in fitted and value.shape == fitted[name].shape:
            value.copy_(fitted[name])
    decisions = {"temperatures": contract.temperatures, "open_set": contract.open_set}
    return with_decisions(loaded, **decisions)


@torch.no_grad()
def torch_outputs(
    checkpoint: Checkpoint, batches: Iterable[tuple[Pixels, TokenBatch]]
) -> Iterator[ModelOutputs]:
    """Run the checkpoint in torch, in float32, batch by batch."""
    model, heads = checkpoint.model, HeadsPart(checkpoint.model, checkpoint.info.temperatures)
    for images, tokens in batches:
        text = model.text_features(
            torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
        )
        image = model.image_features(torch.from_numpy(images))
        p_ai, known_score, p_source = (part.numpy() for part in heads(text, image))
        yield ModelOutputs(text.numpy(), image.numpy(), p_ai[:, 0], p_source, known_score[:, 0])


def _batches_and_labels(
    rows: Iterable[SampleRow], buckets: Sequence[int]
) -> tuple[list[tuple[Pixels, TokenBatch]], Labels]:
    """Return the rows in batches, shortest prompts first, and their labels in that order."""
    ordered = sorted(rows, key=lambda row: row.input_ids.shape[1])
    return list(_batches(ordered, buckets)), [row.label_b for row in ordered]


def _batches(
    rows: Sequence[SampleRow], buckets: Sequence[int]
) -> Iterator[tuple[Pixels, TokenBatch]]:
    for start in range(0, len(rows), _BATCH_ROWS):
        some = rows[start : start + _BATCH_ROWS]
        ids = [row.input_ids[0].tolist() for row in some]
        bucket = next(size for size in buckets if size >= max(map(len, ids)))
        yield np.concatenate([row.image for row in some]), pad_to_bucket(ids, bucket)


def _concatenated(batches: Iterable[ModelOutputs]) -> ModelOutputs:
    rows = [dataclasses.astuple(batch) for batch in batches]
    return ModelOutputs(*(np.concatenate(columns) for columns in zip(*rows, strict=True)))


def _parity(
    compared: tuple[ModelOutputs, ModelOutputs],
    labels: Labels,
    batch_effect: float,
    names: tuple[str, ...],
) -> Parity:
    reference, outputs = compared
    return Parity(
        text_features=_difference(reference.text_features, outputs.text_features),
        image_features=_difference(reference.image_features, outputs.image_features),
        p_ai=_difference(reference.p_ai, outputs.p_ai),
        p_source=_difference(reference.p_source, outputs.p_source),
        equal_a=float(np.mean(outputs.is_ai == reference.is_ai)),
        equal_b=float(np.mean(outputs.source == reference.source)),
        macro_f1=_macro_f1(outputs, labels, names),
        batch=batch_effect,
    )


def _difference(reference: Floats, found: Floats) -> Difference:
    delta = np.abs(found - reference)
    return Difference(float(delta.max()), float(delta.mean()), float(np.abs(reference).mean()))


def _batch_effect(model: Model, batch: tuple[Pixels, TokenBatch]) -> float:
    """Return the largest change of p_source between rows alone and in a batch."""
    images, tokens = batch
    together, found = model.run(images, tokens).p_source, 0.0
    for row in range(min(len(images), _ALONE_ROWS)):
        one = slice(row, row + 1)
        alone = model.run(
            images[one], TokenBatch(tokens.input_ids[one], tokens.attention_mask[one])
        )
        found = max(found, float(np.abs(alone.p_source - together[one]).max()))
    return found


def _macro_f1(outputs: ModelOutputs, labels: Labels, names: tuple[str, ...]) -> MacroF1 | None:
    """Return macro-F1 on the rows that have labels, or None without such rows.

    `names` are the model's labels.
    """
    known = np.array([label is not None for label in labels], np.bool_)
    if not known.any():
        return None
    label_b = np.array([label for label in labels if label is not None], np.int64)
    columns = (outputs.p_ai[known], outputs.p_source[known], outputs.known_score[known])
    scores = LabelledScores((label_b != 0).astype(np.int64), label_b, *columns, names)
    metrics = compute_metrics(scores)
    right_b = scores.sources == outputs.source[known]
    return MacroF1(
        metrics.a.macro_f1,
        metrics.b.macro_f1,
        right_a=int(np.sum(outputs.is_ai[known] == (label_b != 0))),
        right_b=int(np.sum(right_b[scores.in_b])),
    )
