"""An fp32 encoder to INT8 for CPUs: fused, with static activation scales, so that no row's answer depends on its batch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

from aigid.errors import AigidError
from aigid.export.graph_fusion import (
    MICROSOFT,
    PIXEL_MIDDLE,
    append_after,
    constant,
    fuse_for_cpu,
    initializer,
    input_of,
    only_consumer,
    remove_unused,
    replace_node,
)
from aigid.export.graph_metadata import describe_graph, graph_facts, write_graph
from aigid.export.sample_rows import SampleRow
from aigid.scorers.tensors import PARTS

Feed = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]

CALIBRATION_ROWS = 256

# How far an activation's channels may be made alike at the cost of the weights (SmoothQuant, arXiv 2211.10438).
SMOOTHINGS = (0.0, 0.25, 0.5, 0.65, 0.8, 0.9)

# How much more than was seen a scale covers: what is cut off costs far more than coarser steps. On tiny encoders it halved
# the error of the features; on a trained MiniLM it changed nothing.
HEADROOM = 1.25

_UINT8_MAX = 255

_INT8_MAX = 127

# CPUs without VNNI instructions (AMD before Zen 4, Intel before 2019) add the products of two neighbouring rows in 16 bits
# and cut off what does not fit: 255 * (127 + 127) does not, 255 * 128 does. Cut off, the demo model lost 1.2 points of
# macro-F1. Rounding two weights to whole steps adds up to one step to their sum.
PAIR_MAX = 128
_PAIR_STEPS = PAIR_MAX - 0.51


@dataclass(frozen=True)
class SeenChannels:
    """What calibration saw of each channel of an activation: least and greatest value, sum of squares over `tokens`."""

    low: Floats
    high: Floats
    squares: Floats
    tokens: int

    def joined(self, other: "SeenChannels") -> "SeenChannels":
        """Both together."""
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return SeenChannels(low, high, self.squares + other.squares, self.tokens + other.tokens)


def see_channels(activation: Floats) -> SeenChannels:
    """What is to be known of an activation [..., channels]."""
    tokens = activation.reshape(-1, activation.shape[-1])
    return SeenChannels(
        tokens.min(axis=0), tokens.max(axis=0), np.square(tokens).sum(axis=0), len(tokens)
    )


class EncoderQuantizer:
    """Turns one fp32 encoder into INT8: show it calibration rows, then ask for the graph."""

    def __init__(self, fp32: onnx.ModelProto) -> None:
        """Fuse the graph and make it ready to be observed."""
        self._facts = graph_facts(fp32)
        self._model = ir.from_proto(fp32)
        fuse_for_cpu(self._model)
        self._products = _products_by_input(self._model.graph)
        self._names = [value.name or "" for value in self._products]
        self._session = ort.InferenceSession(self._probe(), providers=["CPUExecutionProvider"])
        self._seen: dict[str, SeenChannels] = {}

    def observe(self, feed: Feed) -> None:
        """Run one calibration batch, without padding in it, and note what there is to know of the activations."""
        for name, value in zip(
            self._names, self._session.run(self._names, dict(feed)), strict=True
        ):
            seen = see_channels(value)
            self._seen[name] = self._seen[name].joined(seen) if name in self._seen else seen

    def quantized(self) -> onnx.ModelProto:
        """The INT8 graph; raises AigidError where nothing was observed. Takes the float graph apart: call it once."""
        if not self._seen:
            raise AigidError("an encoder cannot be quantized before it has seen calibration rows")
        # From the end on: what is divided by factors may be folded into the weights of a product before it.
        for source, products in reversed(self._products.items()):
            _quantize_products(self._model.graph, source, products, self._seen[source.name or ""])
        remove_unused(self._model)
        model = ir.to_proto(self._model)
        describe_graph(model, self._facts["aigid.part"], self._facts["aigid.fingerprint"], "int8")
        return model

    def _probe(self) -> bytes:
        probe = ir.to_proto(self._model)
        del probe.graph.output[:]
        for name in self._names:
            probe.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
        return bytes(probe.SerializeToString())


def quantize_graphs(
    graphs: Mapping[str, Path], folder: Path, rows: Iterator[SampleRow]
) -> dict[str, Path]:
    """Write the INT8 graphs of all parts into `folder`, from the fp32 ones and calibration rows; returns their paths."""
    bert, clip_vision = (
        EncoderQuantizer(onnx.load(graphs[part])) for part in ("bert", "clip_vision")
    )
    for row in rows:
        bert.observe({"input_ids": row.input_ids, "attention_mask": np.ones_like(row.input_ids)})
        clip_vision.observe({"image": row.image})
    # The heads take no time, and decide: they stay in floating point.
    heads = onnx.load(graphs["fusion_heads"])
    describe_graph(heads, "fusion_heads", graph_facts(heads)["aigid.fingerprint"], "int8")
    built = {
        "bert": bert.quantized(),
        "clip_vision": clip_vision.quantized(),
        "fusion_heads": heads,
    }
    paths = {part: folder / f"{part}.int8.onnx" for part in PARTS}
    for part, path in paths.items():
        write_graph(built[part], path)
    return paths


def quantize_columns(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """A weight matrix as int8, with one scale for each column (an output channel)."""
    scales = column_scales(weight)
    scales[scales == 0] = 1.0
    return np.rint(weight / scales).astype(np.int8), scales.astype(np.float32)


def column_scales(weight: Floats) -> Floats:
    """The finest steps for each column whose products are the same on every CPU: see PAIR_MAX."""
    pairs = np.pad(weight, ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    # Products of opposite signs take from each other.
    together = np.maximum(
        np.clip(pairs, 0, None).sum(axis=1), np.clip(-pairs, 0, None).sum(axis=1)
    ).max(axis=0)
    scales: Floats = np.maximum(
        np.abs(weight).max(axis=0) / _INT8_MAX, together / _PAIR_STEPS
    ).astype(np.float32)
    return scales


def smoothing_factors(seen: SeenChannels, weights: list[Floats]) -> Floats:
    """What each channel is divided by before it is quantized, and its row of the weights multiplied with.

    The strength is chosen for each activation. On a trained MiniLM that left 0.10 of the features' spread as error, against
    0.12 at 0.8 everywhere and 0.16 without.
    """
    weight = np.concatenate(weights, axis=1)
    candidates = [_factors(seen, weight, smoothing) for smoothing in SMOOTHINGS]
    return min(candidates, key=lambda factors: rounding_error(seen, weight, factors))


def _factors(seen: SeenChannels, weight: Floats, smoothing: float) -> Floats:
    if not smoothing:
        return np.ones(len(weight), np.float32)
    largest, largest_weight = (
        np.maximum(np.abs(seen.low), np.abs(seen.high)),
        np.abs(weight).max(axis=1),
    )
    # A channel that is always zero, or that no weight reads, is left as it is.
    used = (largest > 0) & (largest_weight > 0)
    factors = np.maximum(largest, 1e-6) ** smoothing / np.maximum(largest_weight, 1e-6) ** (
        1 - smoothing
    )
    return np.where(used, factors, 1.0).astype(np.float32)


def rounding_error(seen: SeenChannels, weight: Floats, factors: Floats) -> float:
    """The product's expected squared error, summed over columns, from rounding its activation and its weight."""
    smoothed = weight * factors[:, None]
    scale, _ = activation_scale(seen, factors)
    of_activation = scale**2 * np.square(smoothed).sum()
    of_weight = (seen.squares / seen.tokens / factors**2).sum() * np.square(
        column_scales(smoothed)
    ).sum()
    # Rounding to whole steps errs evenly up to half a step: with a variance of 1/12.
    return float(of_activation + of_weight) / 12


def _products_by_input(graph: ir.Graph) -> dict[ir.Value, list[ir.Node]]:
    """The products with a constant matrix, grouped by the activation they share."""
    groups: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        weight = constant(node.inputs[1]) if node.op_type == "MatMul" else None
        if weight is not None and weight.ndim == 2:
            groups.setdefault(input_of(node, 0), []).append(node)
    return groups


def _quantize_products(
    graph: ir.Graph, source: ir.Value, products: list[ir.Node], seen: SeenChannels
) -> None:
    weights = [_matrix(product) for product in products]
    producer = source.producer()
    if producer is None:
        raise AigidError(
            f"{source.name}: an input of the graph is multiplied as it comes; such a graph is not supported"
        )
    pixels = _pixels_of(producer)
    if pixels is not None:
        # Pixels are whole numbers up to 255 already: nothing is lost on them.
        scale, zero_point, factors, quantized = (
            1.0,
            PIXEL_MIDDLE,
            np.ones(len(seen.low), np.float32),
            pixels,
        )
    else:
        factors = smoothing_factors(seen, weights)
        scale, zero_point = activation_scale(seen, factors)
        smooth = _divided(graph, source, len(products), factors)
        codes = ir.node(
            "QuantizeLinear", [smooth, *_scale_inputs(graph, source, scale, zero_point)]
        )
        quantized = append_after(graph, smooth.producer() or producer, codes)
    scale_input, zero_point_input = _scale_inputs(graph, source, scale, zero_point)
    for product, weight in zip(products, weights, strict=True):
        _replace_product(
            graph, product, weight * factors[:, None], [quantized, scale_input, zero_point_input]
        )


def _divided(graph: ir.Graph, source: ir.Value, products: int, factors: Floats) -> ir.Value:
    """The activation divided by `factors`: by smaller weights before it where `products` alone use it, else by a Mul."""
    producer = source.producer()
    assert producer is not None
    if (factors == 1).all():
        return source
    weights = _scalable_weights(producer) if len(source.uses()) == products else None
    if weights is None:
        divisor = initializer(graph, f"{source.name}_smoothing", 1 / factors)
        return append_after(graph, producer, ir.node("Mul", [source, divisor]))
    for node, index in weights:
        value = input_of(node, index)
        array = constant(value)
        assert array is not None
        smaller = (array / factors).astype(np.float32)
        node.replace_input_with(
            index, initializer(graph, f"{value.name}_of_{source.name}", smaller)
        )
    return source


def _scalable_weights(producer: ir.Node) -> list[tuple[ir.Node, int]] | None:
    """Weights (a node and the number of its input) in proportion to whose last axis the output of `producer` is."""
    if producer.op_type == "LayerNormalization":
        return [(producer, index) for index in range(1, len(producer.inputs))]
    if producer.op_type != "MultiHeadAttention":
        return None
    # Attention mixes tokens, never channels: its output is in proportion to the product that made the values.
    add = _sole_producer(input_of(producer, 2), "Add")
    if add is None:
        return None
    biases = [(add, index) for index, value in enumerate(add.inputs) if _is_bias(value)]
    made = [
        product
        for value in add.inputs
        if value is not None and (product := _sole_producer(value, "MatMul"))
    ]
    products = [(product, 1) for product in made if constant(product.inputs[1]) is not None]
    return biases + products if biases and products else None


def _sole_producer(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node that makes `value`, where it is of that type and one other alone uses it."""
    producer = value.producer()
    return (
        producer
        if producer is not None and producer.op_type == op_type and len(value.uses()) == 1
        else None
    )


def activation_scale(seen: SeenChannels, factors: Floats) -> tuple[float, int]:
    """The scale and zero point whose 256 steps cover all that was seen and more, divided by `factors`; zero stays exact."""
    low = min(float((seen.low / factors).min()), 0.0) * HEADROOM
    high = max(float((seen.high / factors).max()), 0.0) * HEADROOM
    scale = (high - low) / _UINT8_MAX or 1.0
    return scale, round(-low / scale)


def _scale_inputs(
    graph: ir.Graph, source: ir.Value, scale: float, zero_point: int
) -> list[ir.Value]:
    return [
        initializer(graph, f"{source.name}_scale", np.array(scale, np.float32)),
        initializer(graph, f"{source.name}_zero_point", np.array(zero_point, np.uint8)),
    ]


def _replace_product(
    graph: ir.Graph, product: ir.Node, weight: Floats, activation: list[ir.Value]
) -> None:
    """Put an integer product, which gives floats and adds the bias itself, in the place of a float one."""
    codes, scales = quantize_columns(weight)
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


def _pixels_of(producer: ir.Node) -> ir.Value | None:
    """The uint8 value that `producer` takes the middle from, as a float, if it does just that."""
    cast = input_of(producer, 0).producer()
    if (
        producer.op_type != "Sub"
        or constant(producer.inputs[1]) != PIXEL_MIDDLE
        or cast is None
        or cast.op_type != "Cast"
    ):
        return None
    source = input_of(cast, 0)
    return source if source.dtype == ir.DataType.UINT8 else None
