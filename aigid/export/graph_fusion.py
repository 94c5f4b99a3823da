"""Rewrite an exported encoder for CPUs: the same function in fewer, larger operators."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from aigid.export.graph_nodes import (
    MICROSOFT,
    ancestors,
    constant,
    initializer,
    input_of,
    int_list,
    nearest_ancestor,
    nodes_of_type,
    only_consumer,
    producer_of_input,
    remove_unused,
    replace_node,
)
from aigid.export.patch_embedding import fuse_patch_embedding
from aigid.export.token_guard import SAFE_MASK

# Operators that treat every token by itself (MatMul only if its right side is constant).
_TOKENWISE = {
    "Add",
    "Sum",
    "Mul",
    "Sigmoid",
    "Gelu",
    "Relu",
    "Tanh",
    "Erf",
    "LayerNormalization",
    "MatMul",
}


def fuse_for_cpu(model: ir.Model) -> None:
    """Apply all rewrites to `model`, in place.

    Parts that no rewrite recognises stay as they are: slower, with the same results.
    """
    model.opset_imports[MICROSOFT] = 1
    fuse_patch_embedding(model.graph)
    drop_empty_masks(model.graph)
    fuse_attention(model.graph)
    keep_first_token(model.graph)
    keep_residuals_apart(model.graph)
    remove_unused(model)


def drop_empty_masks(graph: ir.Graph) -> None:
    """Remove the masks of encoders that mask nothing, such as DINOv2: they add zero to scores."""
    for add in nodes_of_type(graph, "Add"):
        if _masks_nothing(producer_of_input(add, 1)):
            ir.convenience.replace_all_uses_with(add.outputs[0], input_of(add, 0))


def _masks_nothing(node: ir.Node | None) -> bool:
    """Tell whether a node gives zeros for every batch: a Where whose condition is always true."""
    condition = producer_of_input(node, 0)
    if node is None or condition is None:
        return False
    if (node.op_type, condition.op_type) != ("Where", "Expand"):
        return False
    seen, chosen = constant(condition.inputs[0]), constant(node.inputs[1])
    return seen is not None and chosen is not None and bool(seen.all()) and not chosen.any()


@dataclass(frozen=True)
class _Attention:
    """Scaled dot-product attention: its inputs [N, T, width], and the node that ends it."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    heads: int
    scale: float
    masked: bool
    last: ir.Node


def fuse_attention(graph: ir.Graph) -> None:
    """Fuse product, softmax and product, with their transposes, into MultiHeadAttention."""
    for softmax in nodes_of_type(graph, "Softmax"):
        found = _match_attention(softmax)
        if found is None or (found.masked and len(graph.inputs) < 2):
            # With a single input, the value that is added to the scores is not a mask of tokens.
            continue
        mask = [None, _attention_mask(graph)] if found.masked else []
        inputs = [found.query, found.key, found.value, *mask]
        attributes = {"num_heads": found.heads, "scale": found.scale}
        fused = ir.node("MultiHeadAttention", inputs, attributes, domain=MICROSOFT)
        replace_node(graph, found.last, fused)


def _match_attention(softmax: ir.Node) -> _Attention | None:
    """Return the attention around a softmax, or None if it does not have the known form."""
    scores = producer_of_input(softmax, 0)
    masked = scores is not None and scores.op_type == "Add"
    scaled = producer_of_input(scores, 0) if masked else scores
    product = producer_of_input(scaled, 0)
    context = only_consumer(softmax.outputs[0], "MatMul")
    merged = only_consumer(context.outputs[0], "Transpose") if context else None
    last = only_consumer(merged.outputs[0], "Reshape") if merged else None
    if scaled is None or scaled.op_type != "Mul" or last is None:
        return None
    if product is None or product.op_type != "MatMul":
        return None
    heads, scale = input_of(product, 0).shape, constant(scaled.inputs[1])
    query = _before_split(product, 0, [0, 2, 1, 3])
    key = _before_split(product, 1, [0, 2, 3, 1])
    value = _before_split(context, 1, [0, 2, 1, 3])
    if query is None or key is None or value is None or scale is None or heads is None:
        return None
    number = int(heads[1])  # type: ignore[arg-type] # the export fixes the number of heads
    return _Attention(query, key, value, number, float(scale), masked, last)


def _before_split(product: ir.Node | None, index: int, perm: list[int]) -> ir.Value | None:
    """Return the [N, T, width] value that an input of `product` splits into heads.

    None if the input is anything else.
    """
    transpose = producer_of_input(product, index)
    reshape = producer_of_input(transpose, 0)
    if transpose is None or transpose.op_type != "Transpose":
        return None
    if int_list(transpose, "perm") != perm:
        return None
    return input_of(reshape, 0) if reshape is not None and reshape.op_type == "Reshape" else None


def _attention_mask(graph: ir.Graph) -> ir.Value:
    """Return the mask that the encoder reads: the token guard's output, or else the input."""
    outputs = (value for node in graph for value in node.outputs)
    return next((value for value in outputs if value.name == SAFE_MASK), graph.inputs[1])


def keep_first_token(graph: ir.Graph) -> None:
    """Make the last layer compute only the first token after its attention.

    Applies to encoders whose output is the first token alone.
    """
    for select in nodes_of_type(graph, "Gather"):
        index = constant(select.inputs[1])
        last = nearest_ancestor(input_of(select, 0), "MultiHeadAttention")
        if index is None or index.ndim or index != 0 or last is None:
            continue
        # Where the other tokens are read too, there is nothing to save.
        if select.attributes.get_int("axis", 0) != 1 or len(input_of(select, 0).uses()) != 1:
            continue
        # Every token's key and value is needed: attention mixes them.
        whole = ancestors([input_of(last, 1), input_of(last, 2)])
        first = _FirstToken(graph, select, whole).of(input_of(select, 0))
        axis = initializer(graph, "first_token_axis", np.array([1], np.int64))
        replace_node(graph, select, ir.node("Squeeze", [first, axis]))


class _FirstToken:
    """Computes first tokens, [N, 1, width], from first tokens as far up the graph as possible."""

    def __init__(self, graph: ir.Graph, before: ir.Node, whole: set[ir.Value]) -> None:
        self._graph = graph
        self._before = before
        self._whole = whole
        self._done: dict[ir.Value, ir.Value] = {}

    def of(self, value: ir.Value) -> ir.Value:
        """Return the first token of `value`; new nodes are inserted before the node `before`."""
        if value in self._done or constant(value) is not None:
            return self._done.get(value, value)
        producer = value.producer()
        if producer is not None and value not in self._whole and _is_tokenwise(producer):
            node = self._moved(producer)
        else:
            first = initializer(self._graph, "first_token", np.array([0], np.int64))
            node = ir.node("Gather", [value, first], {"axis": 1})
        self._graph.insert_before(self._before, node)
        self._done[value] = node.outputs[0]
        return self._done[value]

    def _moved(self, producer: ir.Node) -> ir.Node:
        """Return the same node, computed for the first token."""
        # Attention needs the first token of its query, and all tokens of keys and values.
        attention = producer.op_type == "MultiHeadAttention"
        moved = producer.inputs[:1] if attention else producer.inputs
        inputs = [item and self.of(item) for item in moved]
        inputs += producer.inputs[len(moved) :]
        node = ir.node(producer.op_type, inputs, domain=producer.domain)
        node.attributes.update(producer.attributes)
        return node


def _is_tokenwise(node: ir.Node) -> bool:
    if node.op_type == "MultiHeadAttention":
        return True
    weights = [array for array in map(constant, node.inputs) if array is not None]
    if node.op_type == "MatMul":
        return constant(node.inputs[1]) is not None
    if node.op_type == "LayerNormalization":
        return node.attributes.get_int("axis", -1) == -1
    return node.op_type in _TOKENWISE and all(array.ndim <= 1 for array in weights)


def keep_residuals_apart(graph: ir.Graph) -> None:
    """Write residual additions as Sum.

    ONNX Runtime fuses Add into SkipLayerNormalization, which is 8 times slower on CPUs.
    """
    for norm in nodes_of_type(graph, "LayerNormalization"):
        add = producer_of_input(norm, 0)
        if add is None or add.op_type != "Add":
            continue
        if all(constant(value) is None for value in add.inputs):
            replace_node(graph, add, ir.node("Sum", add.inputs))
