"""Rewrites of an exported encoder for CPUs: the same function in fewer, larger operators of ONNX Runtime."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as passes

from aigid.export.token_guard import SAFE_MASK

MICROSOFT = "com.microsoft"
PIXEL_MIDDLE = 128

# Operators that treat every token by itself (a MatMul when its right side is constant).
_BY_TOKEN = {
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

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
}


def fuse_for_cpu(model: ir.Model) -> None:
    """Apply all rewrites to `model`, in place; what is not recognised stays as it is, only slower."""
    model.opset_imports[MICROSOFT] = 1
    fuse_patch_embedding(model.graph)
    fuse_attention(model.graph)
    keep_first_token(model.graph)
    keep_residuals_apart(model.graph)
    remove_unused(model)


def fuse_patch_embedding(graph: ir.Graph) -> None:
    """Turn normalisation and patch convolution into one product over the pixels as they come, with folded weights."""
    for conv in _nodes(graph, "Conv"):
        reshape = only_consumer(conv.outputs[0], "Reshape")
        tokens = only_consumer(reshape.outputs[0], "Transpose") if reshape else None
        weight, strides = constant(conv.inputs[1]), _ints(conv, "strides")
        size = graph.inputs[0].shape
        if tokens is None or weight is None or size is None or _ints(tokens, "perm") != [0, 2, 1]:
            continue
        # Crops stand below one another: the width is of one, and fixed by the export.
        patch, side = weight.shape[2], int(size[2])  # type: ignore[arg-type]
        affine = _channel_affine(graph, input_of(conv, 0), side)
        bias = (
            constant(conv.inputs[2]) if len(conv.inputs) == 3 else np.zeros(len(weight), np.float32)
        )
        if affine is None or bias is None:
            continue
        if strides == [patch, patch] and any(_ints(conv, "pads")) is False and side % patch == 0:
            _product_of_patches(graph, tokens, (weight, bias), affine, side)


def fuse_attention(graph: ir.Graph) -> None:
    """Turn products, softmax and products, with the transposes between them, into MultiHeadAttention."""
    for softmax in _nodes(graph, "Softmax"):
        scores = _producer(softmax, 0)
        masked = scores is not None and scores.op_type == "Add"
        scaled = _producer(scores, 0) if masked and scores else scores
        product = _producer(scaled, 0)
        context = only_consumer(softmax.outputs[0], "MatMul")
        merged = only_consumer(context.outputs[0], "Transpose") if context else None
        out = only_consumer(merged.outputs[0], "Reshape") if merged else None
        if (
            scaled is None
            or scaled.op_type != "Mul"
            or product is None
            or product.op_type != "MatMul"
            or out is None
        ):
            continue
        heads = input_of(product, 0).shape
        query, key = _split_heads(product, 0, [0, 2, 1, 3]), _split_heads(product, 1, [0, 2, 3, 1])
        value = _split_heads(context, 1, [0, 2, 1, 3])
        scale = constant(scaled.inputs[1])
        if query is None or key is None or value is None or scale is None or heads is None:
            continue
        if masked and len(graph.inputs) < 2:
            # What is added is no mask of tokens.
            continue
        inputs = [query, key, value, *([None, _mask(graph)] if masked else [])]
        attributes = {"num_heads": int(heads[1]), "scale": float(scale)}  # type: ignore[arg-type] # heads are fixed
        fused = ir.node("MultiHeadAttention", inputs, attributes, domain=MICROSOFT)
        replace_node(graph, out, fused)


def _mask(graph: ir.Graph) -> ir.Value:
    """The attention mask that the encoder reads: what the guard of its tokens made of the input, if there is one."""
    return next(
        (value for node in graph for value in node.outputs if value.name == SAFE_MASK),
        graph.inputs[1],
    )


def keep_first_token(graph: ir.Graph) -> None:
    """Where only the first token leaves the encoder, let the last layer compute only that one after its attention."""
    for select in _nodes(graph, "Gather"):
        index = constant(select.inputs[1])
        last = _nearest(input_of(select, 0), "MultiHeadAttention")
        if (
            index is None
            or index.ndim
            or index != 0
            or select.attributes.get_int("axis", 0) != 1
            or last is None
        ):
            continue
        whole = _ancestors([input_of(last, 1), input_of(last, 2)])
        first = _first_token(graph, select, input_of(select, 0), whole, {})
        axis = initializer(graph, "first_token_axis", np.array([1], np.int64))
        replace_node(graph, select, ir.node("Squeeze", [first, axis]))


def keep_residuals_apart(graph: ir.Graph) -> None:
    """Write residual additions as Sum: ONNX Runtime would fuse Add into SkipLayerNormalization, 8 times slower on CPUs."""
    for norm in _nodes(graph, "LayerNormalization"):
        add = _producer(norm, 0)
        if (
            add is not None
            and add.op_type == "Add"
            and all(constant(value) is None for value in add.inputs)
        ):
            replace_node(graph, add, ir.node("Sum", add.inputs))


def remove_unused(model: ir.Model) -> None:
    """Drop the nodes and weights that nothing uses any more, and put the rest in order."""
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.TopologicalSortPass(),
        passes.NameFixPass(),
    )(model)


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """The weights or number that `value` always is, or None where it depends on the input."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def initializer(graph: ir.Graph, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """Put a constant into the graph under `name`; the same name gives the same constant."""
    if name not in graph.initializers:
        graph.register_initializer(ir.Value(name=name, const_value=ir.tensor(array, name=name)))
    return graph.initializers[name]


def append_after(graph: ir.Graph, anchor: ir.Node, node: ir.Node) -> ir.Value:
    """Insert `node` after `anchor`; returns its first output."""
    graph.insert_after(anchor, node)
    return node.outputs[0]


def _channel_affine(
    graph: ir.Graph, pixels: ir.Value, side: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Scale and offset, per channel, between the graph's image and `pixels`; None where there is more than that."""
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
            probe = probe.transpose(_ints(step, "perm"))
        elif step.op_type != "Cast" and not (
            # One crop after the other.
            step.op_type == "Reshape" and other is not None and list(other) == [-1, side, side, 3]
        ):
            return None
    zero, one = probe.reshape(2, 3)
    return one - zero, zero


def _product_of_patches(
    graph: ir.Graph,
    tokens: ir.Node,
    convolution: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    affine: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    side: int,
) -> None:
    weight, conv_bias = convolution
    width, channels, patch, _ = weight.shape
    scale, offset = affine
    grid = side // patch
    by_pixel = weight.astype(np.float64).transpose(2, 3, 1, 0)
    folded = (by_pixel * scale[:, None]).reshape(-1, width).astype(np.float32)
    bias = (np.einsum("hwco,c->o", by_pixel, offset + scale * PIXEL_MIDDLE) + conv_bias).astype(
        np.float32
    )
    split = initializer(
        graph, "patch_split", np.array([-1, grid, patch, grid, patch, channels], np.int64)
    )
    flat = initializer(
        graph, "patch_flat", np.array([0, grid * grid, patch * patch * channels], np.int64)
    )
    nodes = [ir.node("Reshape", [graph.inputs[0], split])]
    nodes.append(ir.node("Transpose", nodes[-1].outputs, {"perm": [0, 1, 3, 2, 4, 5]}))
    nodes.append(ir.node("Reshape", [nodes[-1].outputs[0], flat]))
    nodes[-1].outputs[0].dtype = ir.DataType.UINT8
    nodes.append(ir.node("Cast", nodes[-1].outputs, {"to": ir.DataType.FLOAT}))
    # Around the middle, the rounding of integer weights weighs less than on values that are all positive.
    middle = initializer(graph, "pixel_middle", np.array(PIXEL_MIDDLE, np.float32))
    nodes.append(ir.node("Sub", [nodes[-1].outputs[0], middle]))
    nodes.append(
        ir.node("MatMul", [nodes[-1].outputs[0], initializer(graph, "patch_weight", folded)])
    )
    for node in nodes:
        graph.insert_before(tokens, node)
    replace_node(
        graph,
        tokens,
        ir.node("Add", [nodes[-1].outputs[0], initializer(graph, "patch_bias", bias)]),
    )


def _first_token(
    graph: ir.Graph,
    before: ir.Node,
    value: ir.Value,
    whole: set[ir.Value],
    done: dict[ir.Value, ir.Value],
) -> ir.Value:
    """The first token of `value`, [N, 1, width], computed from first tokens as far up as nothing needs the others."""
    if value in done or constant(value) is not None:
        return done.get(value, value)
    producer = value.producer()
    movable = producer is not None and value not in whole and _is_by_token(producer)
    if movable and producer is not None:
        moved = producer.inputs[:1] if producer.op_type == "MultiHeadAttention" else producer.inputs
        inputs = [item and _first_token(graph, before, item, whole, done) for item in moved]
        inputs += producer.inputs[len(moved) :]
        node = ir.node(producer.op_type, inputs, domain=producer.domain)
        node.attributes.update(producer.attributes)
    else:
        first = initializer(graph, "first_token", np.array([0], np.int64))
        node = ir.node("Gather", [value, first], {"axis": 1})
    graph.insert_before(before, node)
    done[value] = node.outputs[0]
    return done[value]


def _is_by_token(node: ir.Node) -> bool:
    if node.op_type == "MultiHeadAttention":
        return True
    weights = [array for array in map(constant, node.inputs) if array is not None]
    if node.op_type == "MatMul":
        return constant(node.inputs[1]) is not None
    if node.op_type == "LayerNormalization":
        return node.attributes.get_int("axis", -1) == -1
    return node.op_type in _BY_TOKEN and all(array.ndim <= 1 for array in weights)


def _split_heads(product: ir.Node | None, index: int, perm: list[int]) -> ir.Value | None:
    """The value, [N, T, width], whose heads the input `index` of a product is, or None where it isn't just that."""
    transpose = _producer(product, index)
    reshape = _producer(transpose, 0)
    if transpose is None or transpose.op_type != "Transpose" or _ints(transpose, "perm") != perm:
        return None
    return input_of(reshape, 0) if reshape is not None and reshape.op_type == "Reshape" else None


def _ancestors(values: Sequence[ir.Value]) -> set[ir.Value]:
    found: set[ir.Value] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        producer = value.producer()
        if value not in found and producer is not None:
            waiting.extend(item for item in producer.inputs if item is not None)
        found.add(value)
    return found


def _nearest(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node of that type met first on the way up from `value`, breadth first."""
    waiting, seen = [value], {value}
    for item in waiting:
        producer = item.producer()
        if producer is not None and producer.op_type == op_type:
            return producer
        above = (
            []
            if producer is None
            else [one for one in producer.inputs if one is not None and one not in seen]
        )
        seen.update(above)
        waiting.extend(above)
    return None


def replace_node(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Put `new` in the place of `old`; the outputs keep their names."""
    graph.insert_before(old, new)
    ir.convenience.replace_nodes_and_values(graph, old, [old], [], old.outputs, new.outputs)


def _nodes(graph: ir.Graph, op_type: str) -> Iterator[ir.Node]:
    return iter([node for node in graph if node.op_type == op_type])


def only_consumer(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node that alone uses `value`, where it is of that type."""
    consumers = [use.node for use in value.uses()]
    return consumers[0] if len(consumers) == 1 and consumers[0].op_type == op_type else None


def _producer(node: ir.Node | None, index: int) -> ir.Node | None:
    value = node.inputs[index] if node is not None and index < len(node.inputs) else None
    return None if value is None else value.producer()


def input_of(node: ir.Node, index: int) -> ir.Value:
    """An input that must be there."""
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"{node.op_type} {node.name}: input {index} is missing")
    return value


def _ints(node: ir.Node, name: str) -> list[int]:
    return list(node.attributes.get_ints(name, []) or [])
