"""Fuse pixel normalisation and patch convolution into one product over uint8 pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from aigid.export.graph_nodes import (
    constant,
    initializer,
    input_of,
    int_list,
    nodes_of_type,
    only_consumer,
    replace_node,
)

# The zero point of pixels: 0 to 255 become -128 to 127.
PIXEL_MIDDLE = 128

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}


@dataclass(frozen=True)
class _PatchConvolution:
    """A convolution over whole patches, and the affine normalisation before it, by channel."""

    weight: npt.NDArray[Any]
    bias: npt.NDArray[Any]
    scale: npt.NDArray[Any]
    offset: npt.NDArray[Any]
    side: int

    @property
    def patch(self) -> int:
        return int(self.weight.shape[2])

    def folded_weight(self) -> npt.NDArray[np.float32]:
        """Return the weights for raw pixels, [patch * patch * channels, width]."""
        folded = (self._by_pixel() * self.scale[:, None]).reshape(-1, len(self.weight))
        return np.asarray(folded, np.float32)

    def folded_bias(self) -> npt.NDArray[np.float32]:
        """Return the bias for pixels that PIXEL_MIDDLE was subtracted from."""
        middle = self.offset + self.scale * PIXEL_MIDDLE
        bias = np.einsum("hwco,c->o", self._by_pixel(), middle) + self.bias
        return np.asarray(bias, np.float32)

    def _by_pixel(self) -> npt.NDArray[np.float64]:
        return self.weight.astype(np.float64).transpose(2, 3, 1, 0)


def fuse_patch_embedding(graph: ir.Graph) -> None:
    """Turn normalisation and patch convolution into one product, with folded weights, in place."""
    for conv in nodes_of_type(graph, "Conv"):
        reshape = only_consumer(conv.outputs[0], "Reshape")
        tokens = only_consumer(reshape.outputs[0], "Transpose") if reshape else None
        if tokens is None or int_list(tokens, "perm") != [0, 2, 1]:
            continue
        convolution = _patch_convolution(graph, conv)
        if convolution is not None:
            _replace_with_product(graph, tokens, convolution)


def _patch_convolution(graph: ir.Graph, conv: ir.Node) -> _PatchConvolution | None:
    """Return the convolution's numbers, or None if it is not one over whole patches of pixels."""
    weight, size = constant(conv.inputs[1]), graph.inputs[0].shape
    if weight is None or size is None:
        return None
    bias = constant(conv.inputs[2]) if len(conv.inputs) == 3 else np.zeros(len(weight), np.float32)
    # Several crops of an image are stacked vertically, so the width is the side of one crop; the
    # export fixes it.
    patch, side = weight.shape[2], int(size[2])  # type: ignore[arg-type]
    affine = _channel_affine(graph, input_of(conv, 0), side)
    if affine is None or bias is None:
        return None
    if int_list(conv, "strides") != [patch, patch] or any(int_list(conv, "pads")) or side % patch:
        return None
    return _PatchConvolution(weight, bias, *affine, side)


def _channel_affine(
    graph: ir.Graph, pixels: ir.Value, side: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return the scale and offset, by channel, from the graph's image to `pixels`.

    None if anything but arithmetic by channel, casts and reordering lies between the two.
    """
    steps: list[ir.Node] = []
    value = pixels
    while value is not graph.inputs[0]:
        producer = value.producer()
        if producer is None:
            return None
        steps.append(producer)
        value = input_of(producer, 0)
    probe = np.array([0.0, 1.0]).reshape(2, 1, 1, 1).repeat(3, axis=3)
    for step in reversed(steps):
        other = constant(step.inputs[1]) if len(step.inputs) == 2 else None
        if step.op_type in _ARITHMETIC and other is not None:
            probe = _ARITHMETIC[step.op_type](probe, other.astype(np.float64))
        elif step.op_type == "Transpose":
            probe = probe.transpose(int_list(step, "perm"))
        elif step.op_type != "Cast" and not _splits_crops(step, other, side):
            return None
    zero, one = probe.reshape(2, 3)
    return one - zero, zero


def _splits_crops(step: ir.Node, shape: npt.NDArray[Any] | None, side: int) -> bool:
    """Tell whether a node turns stacked crops into images of their own."""
    return step.op_type == "Reshape" and shape is not None and list(shape) == [-1, side, side, 3]


def _replace_with_product(graph: ir.Graph, tokens: ir.Node, convolution: _PatchConvolution) -> None:
    """Put the product in place of the convolution, whose result the node `tokens` reorders."""
    patch, channels = convolution.patch, convolution.weight.shape[1]
    grid = convolution.side // patch
    split = np.array([-1, grid, patch, grid, patch, channels], np.int64)
    flat = np.array([0, grid * grid, patch * patch * channels], np.int64)
    split_shape = initializer(graph, "patch_split", split)
    flat_shape = initializer(graph, "patch_flat", flat)
    nodes = [ir.node("Reshape", [graph.inputs[0], split_shape])]
    nodes.append(ir.node("Transpose", nodes[-1].outputs, {"perm": [0, 1, 3, 2, 4, 5]}))
    nodes.append(ir.node("Reshape", [nodes[-1].outputs[0], flat_shape]))
    nodes[-1].outputs[0].dtype = ir.DataType.UINT8
    nodes.append(ir.node("Cast", nodes[-1].outputs, {"to": ir.DataType.FLOAT}))
    # Rounded weights cost less accuracy on values around zero than on values that are all positive.
    middle = initializer(graph, "pixel_middle", np.array(PIXEL_MIDDLE, np.float32))
    nodes.append(ir.node("Sub", [nodes[-1].outputs[0], middle]))
    weight = initializer(graph, "patch_weight", convolution.folded_weight())
    nodes.append(ir.node("MatMul", [nodes[-1].outputs[0], weight]))
    for node in nodes:
        graph.insert_before(tokens, node)
    bias = initializer(graph, "patch_bias", convolution.folded_bias())
    replace_node(graph, tokens, ir.node("Add", [nodes[-1].outputs[0], bias]))
