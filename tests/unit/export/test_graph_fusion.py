from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from support.onnx_graphs import run_graph

from aigid.contract import Resizing
from aigid.export.checkpoint_to_onnx import export_part
from aigid.export.graph_fusion import fuse_for_cpu
from aigid.export.to_model_repository import contract_of
from aigid.training.checkpoint import Checkpoint, load_checkpoint
from aigid.training.encoders import IMAGE_ENCODERS

# Attention with one head over 4 tokens of width 4. Its scores are divided instead of multiplied,
# which is not the known form.
STRANGE_ATTENTION = """
<ir_version: 10, opset_import: ["" : 20]>
strange (float[N,4,4] x) => (float[N,4,4] y)
{
  two = Constant <value = float {2.0}> ()
  xt = Transpose <perm = [0, 2, 1]> (x)
  scores = MatMul (x, xt)
  scaled = Div (scores, two)
  shares = Softmax <axis = -1> (scaled)
  y = MatMul (shares, x)
}
"""


def test_patches_that_do_not_fill_the_image_keep_their_convolution(
    tiny_checkpoint: Callable[[int], Path],
) -> None:
    exported = export_part(load_checkpoint(tiny_checkpoint(36)), "clip_vision")
    fused = ir.from_proto(exported)
    fuse_for_cpu(fused)
    assert "Conv" in {node.op_type for node in fused.graph}
    image = np.random.default_rng(0).integers(0, 256, (3, 36, 36, 3), dtype=np.uint8)
    answers = [
        run_graph(model.SerializeToString(), {"image": image})[0]
        for model in (exported, ir.to_proto(fused))
    ]
    np.testing.assert_allclose(*answers, atol=2e-5)


def assert_same_features(checkpoint: Checkpoint, atol: float = 2e-5) -> ir.Model:
    """Compare the exported and the fused graph with torch, and a row alone with its batch.

    Return the fused graph.
    """
    exported = export_part(checkpoint, "clip_vision")
    fused = ir.from_proto(exported)
    fuse_for_cpu(fused)
    shape = (3, *checkpoint.info.image.shape)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with torch.no_grad():
        expected = checkpoint.model.image_features(torch.from_numpy(image)).numpy()
    assert expected.shape[1] == contract_of(checkpoint).image_features
    scale = np.abs(expected).max()
    for model in (exported, ir.to_proto(fused)):
        graph = model.SerializeToString()
        found = run_graph(graph, {"image": image})[0]
        np.testing.assert_allclose(found / scale, expected / scale, atol=atol)
        np.testing.assert_array_equal(run_graph(graph, {"image": image[1:2]})[0], found[1:2])
    return fused


@pytest.mark.parametrize(
    ("kind", "resizing"),
    [
        *((kind, Resizing.SHORTER_SIDE) for kind in IMAGE_ENCODERS),
        ("clip_vision_model", Resizing.FOUR_NATIVE_CROPS),
    ],
)
def test_fusion_keeps_the_function_of_every_image_encoder_and_of_crops(
    kind: str, resizing: Resizing, checkpoint_with_image_encoder: Callable[..., Path]
) -> None:
    fused = assert_same_features(load_checkpoint(checkpoint_with_image_encoder(kind, resizing)))
    operators = {node.op_type for node in fused.graph}
    assert "Conv" not in operators
    # DINOv3 rotates queries and keys. So does Perception Encoder, but for its pooling.
    assert ("MultiHeadAttention" in operators) is (kind != "dinov3_vit")


@pytest.mark.parametrize(
    ("kind", "pooling", "resizing"),
    [
        ("clip_vision_model", "cls+mean", Resizing.FOUR_NATIVE_CROPS),
        ("siglip_vision_model", "mean", Resizing.SQUASH),
        ("dinov2_with_registers", "mean", Resizing.SHORTER_SIDE),
        ("dinov3_vit", "cls", Resizing.SQUASH),
        ("perception_encoder", "mean", Resizing.SQUASH),
    ],
)
def test_export_and_fusion_keep_the_features_of_an_inner_block(
    kind: str,
    pooling: str,
    resizing: Resizing,
    checkpoint_with_image_encoder: Callable[..., Path],
) -> None:
    folder = checkpoint_with_image_encoder(kind, resizing, image_pooling=pooling)
    checkpoint = load_checkpoint(folder)
    fused = assert_same_features(checkpoint, atol=1e-5)
    assert "Conv" not in {node.op_type for node in fused.graph}
    width = checkpoint.info.image_config["hidden_size"]
    assert contract_of(checkpoint).image_features == width * (2 if pooling == "cls+mean" else 1)


@pytest.mark.filterwarnings("ignore")
def test_unknown_patterns_stay_unchanged() -> None:
    model = ir.from_onnx_text(STRANGE_ATTENTION)
    feed = {"x": np.random.default_rng(0).normal(size=(2, 4, 4)).astype(np.float32)}
    expected = run_graph(ir.to_proto(model).SerializeToString(), feed)[0]
    fuse_for_cpu(model)
    assert "Softmax" in {node.op_type for node in model.graph}
    np.testing.assert_array_equal(
        run_graph(ir.to_proto(model).SerializeToString(), feed)[0], expected
    )
