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
from aigid.training.checkpoint import load_checkpoint
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


@pytest.mark.parametrize(
    ("kind", "resizing"),
    [
        *((kind, Resizing.SHORTER_SIDE) for kind in IMAGE_ENCODERS),
        ("clip_vision_model", Resizing.FOUR_NATIVE_CROPS),
    ],
)
def test_fusion_keeps_the_function_of_every_image_encoder_and_of_crops(
    kind: str, resizing: Resizing, checkpoint_with_image_encoder: Callable[[str, Resizing], Path]
) -> None:
    checkpoint = load_checkpoint(checkpoint_with_image_encoder(kind, resizing))
    exported = export_part(checkpoint, "clip_vision")
    fused = ir.from_proto(exported)
    fuse_for_cpu(fused)
    assert "Conv" not in {node.op_type for node in fused.graph}
    # The attention of DINOs has another form: DINOv2 adds an empty mask, DINOv3 rotates queries
    # and keys.
    assert ("MultiHeadAttention" in {node.op_type for node in fused.graph}) == ("dino" not in kind)
    for rows in (1, 3):
        image = np.random.default_rng(0).integers(
            0, 256, (rows, *checkpoint.info.image.shape), dtype=np.uint8
        )
        answers = [
            run_graph(model.SerializeToString(), {"image": image})[0]
            for model in (exported, ir.to_proto(fused))
        ]
        with torch.no_grad():
            expected = checkpoint.model.image_features(torch.from_numpy(image)).numpy()
        scale = np.abs(expected).max()
        np.testing.assert_allclose(answers[0] / scale, expected / scale, atol=2e-5)
        np.testing.assert_allclose(answers[1] / scale, expected / scale, atol=2e-5)


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
