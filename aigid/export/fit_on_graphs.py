"""Fit temperatures and thresholds on the graphs that are published.

INT8 features differ a little from torch's, and so do their scores. A threshold that was fitted on
torch's scores would promise a rate for a model that nobody runs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from aigid.contract import FittedOn, ModelContract, Temperatures
from aigid.export.checkpoint_to_onnx import export_heads
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch
from aigid.training.calibration import fit_temperatures
from aigid.training.checkpoint import Checkpoint
from aigid.training.datasets import LabelledManifest
from aigid.training.fingerprints import model_fingerprint
from aigid.training.heads import Heads
from aigid.training.inference import score_features
from aigid.training.labelled_features import LabelledFeatures, labelled_features
from aigid.training.metrics import LabelledScores
from aigid.training.open_set import FittedOpenSet, fit_open_set
from aigid.training.thresholds import RATES, Decisions, fit_decisions
from aigid.training.training_progress import TrainingProgress

Floats = npt.NDArray[np.float32]

_BATCH_ROWS = 16


def graph_features(
    encoders: Mapping[str, Path], manifest: LabelledManifest, progress: TrainingProgress
) -> LabelledFeatures:
    """Return what the graphs `bert` and `clip_vision` make of the manifest's decodable rows."""
    bert, clip_vision = (_session(str(encoders[part])) for part in ("bert", "clip_vision"))

    def encode(images: Pixels, tokens: TokenBatch) -> tuple[Floats, Floats]:
        ids = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        (text,) = bert.run(["text_features"], ids)
        (image,) = clip_vision.run(["image_features"], {"image": images})
        return text, image

    return labelled_features(encode, manifest, progress)


@dataclass(frozen=True)
class FittedHeads:
    """What heads decide, the graph with their temperatures, and its scores of the fitted rows."""

    temperatures: Temperatures
    graph: onnx.ModelProto
    scores: LabelledScores
    decisions: Decisions

    def fitted_on(self, data: str, graphs: str) -> FittedOn:
        """Return the origin: a short name of the data, and the precision of the encoders."""
        label_a = self.scores.label_a
        return FittedOn(data, len(label_a), int((label_a == 0).sum()), graphs)


def fit_heads(
    heads: Heads,
    features: LabelledFeatures,
    labels: tuple[str, ...],
    unfitted: Temperatures,
    rates: Iterable[float] = RATES,
) -> FittedHeads:
    """Fit temperatures, the thresholds of `rates` and the open-set threshold on labelled features.

    Temperatures that the rows say too little about stay those of `unfitted`. The constants of the
    open-set score are fitted too, and replaced in `heads`.
    """
    found = score_features(heads, features)
    temperatures = fit_temperatures(found.logits, found.label_a, found.label_b, unfitted)
    open_set = fit_open_set(heads, found.logits, temperatures, found.label_b, labels)
    graph = export_heads(
        heads,
        temperatures,
        text_features=features.text.shape[1],
        image_features=features.image.shape[1],
    )
    scores = head_scores(graph, features, labels)
    return FittedHeads(temperatures, graph, scores, fit_decisions(scores, open_set, rates))


def fit_thresholds_alone(
    heads: Heads, features: LabelledFeatures, contract: ModelContract, rates: Iterable[float]
) -> FittedHeads:
    """Fit the thresholds of `rates` on labelled features; the scores stay those of the contract."""
    graph = export_heads(
        heads,
        contract.temperatures,
        text_features=features.text.shape[1],
        image_features=features.image.shape[1],
    )
    scores = head_scores(graph, features, contract.labels)
    decisions = fit_decisions(scores, FittedOpenSet(contract.open_set), rates)
    return FittedHeads(contract.temperatures, graph, scores, decisions)


@dataclass(frozen=True)
class FittedModel:
    """A checkpoint with new temperatures and thresholds, and the graph of its heads with them.

    `found_by` has the share of AI-generated rows that the threshold of each rate (as text) finds,
    and `refused` the reason for what was not fitted.
    """

    checkpoint: Checkpoint
    heads: onnx.ModelProto
    found_by: Mapping[str, float]
    refused: Mapping[str, str]


def fit_on_features(
    checkpoint: Checkpoint, features: LabelledFeatures, *, data: str, graphs: str
) -> FittedModel:
    """Fit a checkpoint's temperatures and thresholds anew on features of the precision `graphs`.

    `data` is a short name of the manifest.
    """
    info = checkpoint.info
    found = fit_heads(checkpoint.model, features, info.labels, info.temperatures)
    fitted = with_decisions(
        checkpoint,
        temperatures=found.temperatures,
        thresholds=found.decisions.thresholds,
        miss_thresholds=found.decisions.miss_thresholds,
        open_set=found.decisions.open_set,
        fitted_on=found.fitted_on(data, graphs),
    )
    return FittedModel(fitted, found.graph, found.decisions.found_by, found.decisions.refused)


def with_decisions(checkpoint: Checkpoint, **decisions: Any) -> Checkpoint:
    """Return the checkpoint with other temperatures, thresholds, `open_set` or `fitted_on`.

    Its fingerprint becomes that of the model which decides so.
    """
    info = replace(checkpoint.info, **decisions)
    fingerprint = model_fingerprint(
        checkpoint.model,
        checkpoint.encoders_fingerprint,
        info.labels,
        info.temperatures,
        info.open_set,
    )
    return replace(checkpoint, info=info, fingerprint=fingerprint)


def head_scores(
    graph: onnx.ModelProto, features: LabelledFeatures, labels: tuple[str, ...]
) -> LabelledScores:
    """Return the scores of the graph `fusion_heads`, over these labels, to the last bit."""
    session = _session(graph.SerializeToString())
    parts = [
        session.run(
            ["p_ai", "p_source", "known_score"],
            {
                "text_features": features.text[start : start + _BATCH_ROWS],
                "image_features": features.image[start : start + _BATCH_ROWS],
            },
        )
        for start in range(0, len(features.text), _BATCH_ROWS)
    ]
    p_ai, p_source, known_score = (np.concatenate(column) for column in zip(*parts, strict=True))
    return LabelledScores(
        features.label_a, features.label_b, p_ai[:, 0], p_source, known_score[:, 0], labels
    )


def _session(graph: str | bytes) -> ort.InferenceSession:
    """Return a session for one core, as the embedded scorer's are."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
