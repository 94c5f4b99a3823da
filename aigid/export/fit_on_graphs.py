"""Fit temperatures and thresholds on the graphs that are published.

INT8 features differ a little from torch's, and so do their scores. A threshold that was fitted on
torch's scores would promise a rate for a model that nobody runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch

from aigid.contract import FittedOn
from aigid.export.checkpoint_to_onnx import export_heads
from aigid.training.calibration import fit_temperatures
from aigid.training.checkpoint import Checkpoint
from aigid.training.datasets import LabelledManifest
from aigid.training.fingerprints import model_fingerprint
from aigid.training.thresholds import fit_thresholds
from aigid.training.training_progress import TrainingProgress

Floats = npt.NDArray[np.float32]

_BATCH_ROWS = 16


@dataclass(frozen=True)
class LabelledFeatures:
    """The features of both encoders for N rows, [N, Dt] and [N, Di], and their labels, int [N]."""

    text: Floats
    image: Floats
    label_a: npt.NDArray[np.int64]
    label_b: npt.NDArray[np.int64]


def graph_features(
    encoders: Mapping[str, Path], manifest: LabelledManifest, progress: TrainingProgress
) -> LabelledFeatures:
    """Return what the graphs `bert` and `clip_vision` make of the manifest's decodable rows."""
    bert, clip_vision = (_session(str(encoders[part])) for part in ("bert", "clip_vision"))
    progress.start(manifest.rows, 0)
    parts = []
    for batch in manifest.batches(_BATCH_ROWS, None):
        rows = len(batch.label_a)
        if rows:
            tokens = batch.tokens
            ids = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
            (text,) = bert.run(["text_features"], ids)
            (image,) = clip_vision.run(["image_features"], {"image": batch.images})
            parts.append((text, image, batch.label_a, batch.label_b))
        progress.advance(rows + batch.undecodable, batch.undecodable)
    return LabelledFeatures(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class FittedModel:
    """A checkpoint with new temperatures and thresholds, and the graph of its heads with them.

    `refused` has the reason for each false-positive rate (as text) that has no threshold.
    """

    checkpoint: Checkpoint
    heads: onnx.ModelProto
    refused: Mapping[str, str]


def fit_on_features(
    checkpoint: Checkpoint, features: LabelledFeatures, *, data: str, graphs: str
) -> FittedModel:
    """Fit a checkpoint's temperatures and thresholds anew on features of the precision `graphs`.

    `data` is a short name of the manifest. Temperatures that the rows say too little about stay as
    they were.
    """
    label_a, label_b = torch.from_numpy(features.label_a), torch.from_numpy(features.label_b)
    text, image = torch.from_numpy(features.text), torch.from_numpy(features.image)
    with torch.inference_mode():
        logits = checkpoint.model.fuse(text, image)
    unfitted = checkpoint.info.temperatures
    temperatures = fit_temperatures(logits, label_a, label_b, unfitted)
    heads = export_heads(
        checkpoint.model,
        temperatures,
        text_features=text.shape[1],
        image_features=image.shape[1],
    )
    p_ai, _ = _head_scores(heads, features)
    thresholds = fit_thresholds(features.label_a, p_ai)
    fitted = with_decisions(
        checkpoint,
        temperatures=temperatures,
        thresholds=thresholds.found,
        fitted_on=FittedOn(data, len(text), int((features.label_a == 0).sum()), graphs),
    )
    return FittedModel(fitted, heads, thresholds.refused)


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


def _head_scores(heads: onnx.ModelProto, features: LabelledFeatures) -> tuple[Floats, Floats]:
    """Return `p_ai` and `known_score`, [N] each, as the graph `fusion_heads` computes them."""
    session = _session(heads.SerializeToString())
    parts = [
        session.run(
            ["p_ai", "known_score"],
            {
                "text_features": features.text[start : start + _BATCH_ROWS],
                "image_features": features.image[start : start + _BATCH_ROWS],
            },
        )
        for start in range(0, len(features.text), _BATCH_ROWS)
    ]
    p_ai, known_score = (np.concatenate(column)[:, 0] for column in zip(*parts, strict=True))
    return p_ai, known_score


def _session(graph: str | bytes) -> ort.InferenceSession:
    return ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
