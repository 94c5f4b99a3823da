"""Export a checkpoint as three ONNX graphs: bert, clip_vision and fusion_heads, in fp32 or fp16."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from aigid.contract import PromptSpec, Temperatures
from aigid.errors import BuildError
from aigid.export.graph_metadata import describe_graph, write_graph
from aigid.export.token_guard import guard_tokens
from aigid.training.checkpoint import Checkpoint
from aigid.training.encoders import encoder_width
from aigid.training.fusion_model import FusionModel
from aigid.training.heads import Heads

OPSET = 20


class Precision(StrEnum):
    """The type that the encoders compute in; inputs, features and heads are the same in both."""

    FP32 = "fp32"
    FP16 = "fp16"


# Added to the attention scores of padding: far below any score, and within the range of fp16.
MASKED_SCORE = -1e4

_ROWS = torch.export.Dim("N")


class TextPart(nn.Module):
    """The graph `bert`: token ids and mask, int32 [N, T], to text_features [N, Dt]."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the text features."""
        # The encoder takes a 4-dimensional mask as attention scores. This keeps its own, general
        # construction of such a mask (GatherND, int64) out of the graph.
        encoder: Any = self.model.text_encoder
        scores = (1 - attention_mask[:, None, None, :].to(encoder.dtype)) * MASKED_SCORE
        return self.model.text_features(input_ids, scores).to(torch.float32)


class ImagePart(nn.Module):
    """The graph `clip_vision`: pixels, uint8 [N, H, W, 3], to image_features [N, Di]."""

    def __init__(self, model: FusionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Return the image features."""
        return self.model.image_features(image).to(torch.float32)


class HeadsPart(nn.Module):
    """The graph `fusion_heads`: both features to p_ai, known_score [N, 1] and p_source [N, K]."""

    def __init__(self, heads: Heads, temperatures: Temperatures) -> None:
        super().__init__()
        self.heads = heads
        self.temperatures = temperatures

    def forward(
        self, text_features: Tensor, image_features: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores; head B's logit for "real" is not used, head A decides that."""
        logits = self.heads.fuse(text_features, image_features)
        p_ai = torch.sigmoid(logits.a / self.temperatures.a).unsqueeze(1)
        share = torch.softmax(logits.b[:, 1:] / self.temperatures.b, dim=1)
        p_source = torch.cat([1 - p_ai, p_ai * share], dim=1)
        return p_ai, self.heads.known_score(logits, p_source).unsqueeze(1), p_source


def export_checkpoint(
    checkpoint: Checkpoint, folder: Path, precision: Precision = Precision.FP32
) -> dict[str, Path]:
    """Write `bert.fp32.onnx`, `clip_vision.fp32.onnx` and so on into `folder`.

    Return their paths by part.
    """
    encoders = export_encoders(checkpoint, folder, precision)
    heads = export_part(checkpoint, "fusion_heads")
    return encoders | {"fusion_heads": write_heads(heads, checkpoint, folder, precision)}


def export_encoders(
    checkpoint: Checkpoint, folder: Path, precision: Precision = Precision.FP32
) -> dict[str, Path]:
    """Write the graphs of both encoders, as `export_checkpoint` does."""
    paths = {part: folder / f"{part}.{precision}.onnx" for part in ("bert", "clip_vision")}
    for part, path in paths.items():
        graph = export_part(checkpoint, part, precision)
        describe_graph(graph, part, checkpoint.encoders_fingerprint, precision)
        write_graph(graph, path)
    return paths


def write_heads(
    heads: onnx.ModelProto, checkpoint: Checkpoint, folder: Path, precision: str
) -> Path:
    """Write the graph `fusion_heads`, which is the same in all precisions; return its path."""
    path = folder / f"fusion_heads.{precision}.onnx"
    describe_graph(heads, "fusion_heads", checkpoint.fingerprint, precision)
    write_graph(heads, path)
    return path


def export_part(
    checkpoint: Checkpoint, part: str, precision: Precision = Precision.FP32
) -> onnx.ModelProto:
    """Return the graph of one part, which takes any number of rows (and tokens).

    fp16 graphs are strongly typed, as TensorRT requires: casts in the graph say what computes in
    half precision. Raises BuildError if torch's exporter does not support an encoder.
    """
    # A copy, because the export changes the model.
    model = copy.deepcopy(checkpoint.model).float().cpu().eval()
    encoders: tuple[Any, Any] = (model.text_encoder, model.image_encoder)
    for encoder in encoders:
        # Exported as plain products and a softmax, which the fusions for CPUs recognise.
        encoder.set_attn_implementation("eager")
        if precision is Precision.FP16:
            encoder.half()
        # Positions and token types, which the encoders keep as int64.
        _narrow_integers(encoder)
    if part == "bert":
        return _export_text(model, checkpoint.info.prompt)
    if part == "clip_vision":
        image = torch.zeros(2, *checkpoint.info.image.shape, dtype=torch.uint8)
        return _export(ImagePart(model), {"image": (image, {0: _ROWS})}, ["image_features"])
    return export_heads(
        model,
        checkpoint.info.temperatures,
        text_features=encoder_width(model.text_encoder),
        image_features=encoder_width(model.image_encoder),
    )


def export_heads(
    heads: Heads, temperatures: Temperatures, *, text_features: int, image_features: int
) -> onnx.ModelProto:
    """Return the graph `fusion_heads` of heads in evaluation mode, for features so long."""
    widths = {"text_features": text_features, "image_features": image_features}
    inputs = {name: (torch.zeros(2, width), {0: _ROWS}) for name, width in widths.items()}
    return _export(HeadsPart(heads, temperatures), inputs, ["p_ai", "known_score", "p_source"])


def _narrow_integers(encoder: nn.Module) -> None:
    """Turn the encoder's int64 buffers into int32."""
    for module in encoder.modules():
        for name, value in module.named_buffers(recurse=False):
            if value.dtype == torch.int64:
                module.register_buffer(name, value.to(torch.int32), persistent=False)


def _export_text(model: FusionModel, prompt: PromptSpec) -> onnx.ModelProto:
    ids = torch.ones(2, prompt.buckets[0], dtype=torch.int32)
    # A tensor of its own: the exporter makes one input of a tensor that is passed twice.
    mask = torch.ones_like(ids)
    axes = {0: _ROWS, 1: torch.export.Dim("T", max=prompt.max_tokens)}
    inputs = {"input_ids": (ids, axes), "attention_mask": (mask, axes)}
    graph = _export(TextPart(model), inputs, ["text_features"])
    encoder: Any = model.text_encoder
    guard_tokens(graph, encoder.config.vocab_size, prompt.max_tokens)
    return graph


def _export(
    module: nn.Module, inputs: dict[str, tuple[Tensor, dict[int, Any]]], outputs: list[str]
) -> onnx.ModelProto:
    """Export a module, given an example and the dynamic axes of each input."""
    try:
        with torch.no_grad(), _quiet_exporter():
            program = torch.onnx.export(
                module.eval(),
                tuple(example for example, _ in inputs.values()),
                dynamo=True,
                dynamic_shapes={name: axes for name, (_, axes) in inputs.items()},
                external_data=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=outputs,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise BuildError(
            f"torch cannot export the graph of {', '.join(outputs)}: {_first_cause(error)}; "
            "encoders of the classes BertModel and CLIPVisionModel are known to work"
        ) from error
    if program is None:
        raise BuildError(
            f"torch.onnx.export returned no graph of {', '.join(outputs)}: "
            f"torch {torch.__version__} may not be supported"
        )
    return program.model_proto


def _first_cause(error: BaseException) -> str:
    """Return the original error in one line, without the exporter's advice to its developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's remarks: shared axis names, its own deprecations, no torchvision."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        registry.setLevel(level)
