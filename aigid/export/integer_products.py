"""Replace the float products of a fused encoder by integer products."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from aigid.errors import AigidError
from aigid.export.graph_nodes import (
    MICROSOFT,
    append_after,
    constant,
    initializer,
    input_of,
    only_consumer,
    remove_unused,
    replace_node,
    sole_producer,
)
from aigid.export.int8_scales import (
    ChannelStatistics,
    Floats,
    activation_scale,
    smoothing_factors,
)
from aigid.export.patch_embedding import PIXEL_MIDDLE
from aigid.export.weight_rounding import error_spread, round_weights


def products_by_input(graph: ir.Graph) -> dict[ir.Value, list[ir.Node]]:
    """Return the products with a constant matrix, grouped by the activation that they share."""
    groups: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        weight = constant(node.inputs[1]) if node.op_type == "MatMul" else None
        if weight is not None and weight.ndim == 2:
            groups.setdefault(input_of(node, 0), []).append(node)
    return groups


def quantize_products(
    model: ir.Model,
    products: Mapping[ir.Value, list[ir.Node]],
    seen: Mapping[str, ChannelStatistics],
) -> None:
    """Quantize `products` in place, given the statistics of each activation by name."""
    # Last layers first: smoothing may scale the weights of an earlier product, which must still be
    # in float then.
    for activation, group in reversed(list(products.items())):
        _quantize_group(model.graph, activation, group, seen[activation.name or ""])
    remove_unused(model)


def _quantize_group(
    graph: ir.Graph, activation: ir.Value, products: list[ir.Node], seen: ChannelStatistics
) -> None:
    """Quantize the products of one activation."""
    weights = [_matrix(product) for product in products]
    producer = activation.producer()
    if producer is None:
        raise AigidError(
            f"{activation.name}: a product reads this input of the graph directly, "
            "which quantization does not support"
        )
    pixels = _pixels_before(producer)
    if pixels is not None:
        # Pixels are whole numbers from 0 to 255 already: they lose nothing.
        factors = np.ones(len(seen.low), np.float32)
        scale, zero_point, codes = 1.0, PIXEL_MIDDLE, pixels
    else:
        factors = smoothing_factors(seen, weights)
        scale, zero_point = activation_scale(seen, factors)
        smooth = _divided(graph, activation, len(products), factors)
        scales = _scale_inputs(graph, activation, scale, zero_point)
        quantize = ir.node("QuantizeLinear", [smooth, *scales])
        codes = append_after(graph, smooth.producer() or producer, quantize)
    quantized = [codes, *_scale_inputs(graph, activation, scale, zero_point)]
    spread = error_spread(seen.products / np.outer(factors, factors))
    for product, weight in zip(products, weights, strict=True):
        rounded = round_weights(weight * factors[:, None], spread)
        _replace_product(graph, product, rounded, quantized)


def _divided(graph: ir.Graph, activation: ir.Value, products: int, factors: Floats) -> ir.Value:
    """Return the activation divided by `factors`.

    If the products are its only readers, the division goes into the weights before it; otherwise a
    Mul does it.
    """
    producer = activation.producer()
    assert producer is not None
    if (factors == 1).all():
        return activation
    weights = _scalable_weights(producer) if len(activation.uses()) == products else None
    if weights is None:
        divisor = initializer(graph, f"{activation.name}_smoothing", 1 / factors)
        return append_after(graph, producer, ir.node("Mul", [activation, divisor]))
    for node, index in weights:
        value = input_of(node, index)
        array = constant(value)
        assert array is not None
        smaller = (array / factors).astype(np.float32)
        name = f"{value.name}_of_{activation.name}"
        node.replace_input_with(index, initializer(graph, name, smaller))
    return activation


def _scalable_weights(producer: ir.Node) -> list[tuple[ir.Node, int]] | None:
    """Return weights, as node and input index, that scale the output of `producer` by channel.

    None if there are no such weights.
    """
    if producer.op_type == "LayerNormalization":
        return [(producer, index) for index in range(1, len(producer.inputs))]
    if producer.op_type != "MultiHeadAttention":
        return None
    # Attention mixes tokens, never channels: scaling the product that computes the values scales
    # the output of the attention.
    add = sole_producer(input_of(producer, 2), "Add")
    if add is None:
        return None
    biases = [(add, index) for index, value in enumerate(add.inputs) if _is_bias(value)]
    candidates = [sole_producer(value, "MatMul") for value in add.inputs if value is not None]
    products = [
        (product, 1)
        for product in candidates
        if product is not None and constant(product.inputs[1]) is not None
    ]
    return biases + products if biases and products else None


def _scale_inputs(
    graph: ir.Graph, activation: ir.Value, scale: float, zero_point: int
) -> list[ir.Value]:
    name = activation.name
    return [
        initializer(graph, f"{name}_scale", np.array(scale, np.float32)),
        initializer(graph, f"{name}_zero_point", np.array(zero_point, np.uint8)),
    ]


def _replace_product(
    graph: ir.Graph,
    product: ir.Node,
    weight: tuple[npt.NDArray[np.int8], Floats],
    activation: list[ir.Value],
) -> None:
    """Replace a float product, and the bias added to it, by one integer product with float output.

    `weight` holds the quantized matrix and its scales, `activation` the quantized values, their
    scale and their zero point.
    """
    codes, scales = weight
    add = only_consumer(product.outputs[0], "Add")
    biases = [] if add is None else [value for value in add.inputs if _is_bias(value)]
    name = f"{product.outputs[0].name}_weight"
    quantized, scale, zero_point = activation
    inputs = [
        quantized,
        initializer(graph, name, codes),
        scale,
        initializer(graph, f"{name}_scales", scales),
        zero_point,
    ]
    integer = ir.node("MatMulIntegerToFloat", [*inputs, None, *biases], domain=MICROSOFT)
    replace_node(graph, add if add is not None and biases else product, integer)


def _is_bias(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.ndim == 1


def _matrix(product: ir.Node) -> Floats:
    weight = constant(product.inputs[1])
    assert weight is not None
    return weight.astype(np.float32)


def _pixels_before(producer: ir.Node) -> ir.Value | None:
    """Return the uint8 pixels if `producer` subtracts PIXEL_MIDDLE from them, or None."""
    cast = input_of(producer, 0).producer()
    if producer.op_type != "Sub" or constant(producer.inputs[1]) != PIXEL_MIDDLE:
        return None
    if cast is None or cast.op_type != "Cast":
        return None
    pixels = input_of(cast, 0)
    return pixels if pixels.dtype == ir.DataType.UINT8 else None
