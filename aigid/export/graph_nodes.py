"""Find, read and replace the nodes of an ONNX graph (onnx_ir)."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as passes

# The domain of ONNX Runtime's own operators.
MICROSOFT = "com.microsoft"


def constant(value: ir.Value | None) -> npt.NDArray[Any] | None:
    """Return the constant array of `value`, or None if it depends on the graph's inputs."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def initializer(graph: ir.Graph, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """Return the graph's constant called `name`, created from `array` if it does not exist yet."""
    if name not in graph.initializers:
        graph.register_initializer(ir.Value(name=name, const_value=ir.tensor(array, name=name)))
    return graph.initializers[name]


def nodes_of_type(graph: ir.Graph, op_type: str) -> list[ir.Node]:
    """Return the graph's nodes of one operator type; the graph may change while they are read."""
    return [node for node in graph if node.op_type == op_type]


def input_of(node: ir.Node, index: int) -> ir.Value:
    """Return an input that the node must have. Raises ValueError if it is absent."""
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"{node.op_type} {node.name}: input {index} is missing")
    return value


def producer_of_input(node: ir.Node | None, index: int) -> ir.Node | None:
    """Return the node that computes an input, or None if there is no such input or node."""
    value = node.inputs[index] if node is not None and index < len(node.inputs) else None
    return None if value is None else value.producer()


def only_consumer(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the only node that reads `value`, or None if there are more or its type differs."""
    consumers = [use.node for use in value.uses()]
    return consumers[0] if len(consumers) == 1 and consumers[0].op_type == op_type else None


def sole_producer(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the node that computes `value`, if it has that type and exactly one node reads it."""
    producer = value.producer()
    if producer is None or producer.op_type != op_type or len(value.uses()) != 1:
        return None
    return producer


def int_list(node: ir.Node, name: str) -> list[int]:
    """Return an attribute that is a list of integers; empty if the node does not have it."""
    return list(node.attributes.get_ints(name, []) or [])


def ancestors(values: Sequence[ir.Value]) -> set[ir.Value]:
    """Return the given values and everything that they are computed from."""
    found: set[ir.Value] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        producer = value.producer()
        if value not in found and producer is not None:
            waiting.extend(item for item in producer.inputs if item is not None)
        found.add(value)
    return found


def nearest_ancestor(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the closest node of that type that `value` is computed from (breadth first)."""
    waiting, seen = [value], {value}
    for item in waiting:
        producer = item.producer()
        if producer is None:
            continue
        if producer.op_type == op_type:
            return producer
        above = [one for one in producer.inputs if one is not None and one not in seen]
        seen.update(above)
        waiting.extend(above)
    return None


def append_after(graph: ir.Graph, anchor: ir.Node, node: ir.Node) -> ir.Value:
    """Insert `node` after `anchor` and return its first output."""
    graph.insert_after(anchor, node)
    return node.outputs[0]


def replace_node(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Replace `old` with `new`; the outputs keep their names."""
    graph.insert_before(old, new)
    ir.convenience.replace_nodes_and_values(graph, old, [old], [], old.outputs, new.outputs)


def remove_unused(model: ir.Model) -> None:
    """Remove unused nodes and weights, sort the rest topologically and fix their names."""
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.TopologicalSortPass(),
        passes.NameFixPass(),
    )(model)
