"""An fp32 graph to INT8 for CPUs: fused, with static activation scales, so that no row's answer depends on its batch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from graph_fusion import MICROSOFT, append_after, constant, fuse_for_cpu, initializer, remove_unused

from aigid.errors import AigidError

Feed = Mapping[str, npt.NDArray[np.generic]]
Floats = npt.NDArray[np.float32]

_UINT8_MAX = 255
_INT8_MAX = 127


@dataclass
class ChannelStatistics:
    """What calibration saw of one activation: its range, and the sum of each channel over `tokens` tokens."""

    low: float
    high: float
    channel_sums: npt.NDArray[np.float64]
    tokens: int

    def merge(self, other: "ChannelStatistics") -> None:
        """Take in what another batch showed."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.channel_sums += other.channel_sums
        self.tokens += other.tokens


@dataclass(frozen=True)
class ActivationScale:
    """How an activation becomes uint8: value = (code - zero_point) * scale."""

    scale: float
    zero_point: int


def quantize_encoder(fp32: onnx.ModelProto, feeds: Iterable[Feed]) -> onnx.ModelProto:
    """The INT8 graph of an encoder, calibrated on the batches of `feeds`; raises AigidError where there are none."""
    model = ir.from_proto(fp32)
    fuse_for_cpu(model)
    products = quantizable_products(model.graph)
    statistics = observe(model, sorted({product.inputs[0].name for product in products}), feeds)
    for product in products:
        _quantize_product(model.graph, product, statistics[product.inputs[0].name])
    remove_unused(model)
    return ir.to_proto(model)


def quantizable_products(graph: ir.Graph) -> list[ir.Node]:
    """The products whose right side is a constant matrix."""
    found = []
    for node in graph:
        weight = constant(node.inputs[1]) if node.op_type == "MatMul" else None
        if weight is not None and weight.ndim == 2:
            found.append(node)
    return found


def observe(model: ir.Model, names: list[str], feeds: Iterable[Feed]) -> dict[str, ChannelStatistics]:
    """Run the float graph over the calibration batches, and note what the activations `names` look like."""
    probe = ir.to_proto(model)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    for output in probe.graph.output:
        output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    statistics: dict[str, ChannelStatistics] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            seen = _statistics(value)
            if name in statistics:
                statistics[name].merge(seen)
            else:
                statistics[name] = seen
    if not statistics:
        raise AigidError("calibration needs at least one batch of rows")
    return statistics


def activation_scale(statistics: ChannelStatistics) -> ActivationScale:
    """The scale that covers all that was seen, and zero, which stays exact."""
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    scale = (high - low) / _UINT8_MAX or 1.0
    return ActivationScale(scale, round(-low / scale))


def _statistics(value: Floats) -> ChannelStatistics:
    by_token = value.reshape(-1, value.shape[-1])
    return ChannelStatistics(
        float(by_token.min()), float(by_token.max()), by_token.sum(axis=0, dtype=np.float64), len(by_token)
    )


def _quantize_product(graph: ir.Graph, product: ir.Node, statistics: ChannelStatistics) -> None:
    weight = constant(product.inputs[1])
    source, name = product.inputs[0], product.inputs[1].name
    assert weight is not None and source is not None
    codes, scales = quantize_columns(weight)
    pixels = _pixels_of(source)
    activation = ActivationScale(1.0, 128) if pixels else activation_scale(statistics)
    quantized = pixels or _quantized(graph, source, activation)
    add = product.outputs[0].uses()[0].node
    bias = constant(add.inputs[1])
    inputs = [
        quantized,
        initializer(graph, f"{name}_int8", codes),
        initializer(graph, f"{source.name}_scale", np.array(activation.scale, np.float32)),
        initializer(graph, f"{name}_scales", scales),
        initializer(graph, f"{source.name}_zero_point", np.array(activation.zero_point, np.uint8)),
        None,
        None if bias is None else add.inputs[1],
    ]
    old = product if bias is None else add
    new = ir.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT)
    graph.insert_before(old, new)
    ir.convenience.replace_nodes_and_values(graph, old, [old], [], old.outputs, new.outputs)


def quantize_columns(weight: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """A weight matrix as int8, one scale for each column (an output channel)."""
    scales = np.abs(weight).max(axis=0) / _INT8_MAX
    scales[scales == 0] = 1.0
    return np.rint(weight / scales).astype(np.int8), scales.astype(np.float32)


def _quantized(graph: ir.Graph, source: ir.Value, activation: ActivationScale) -> ir.Value:
    for use in source.uses():
        if use.node.op_type == "QuantizeLinear":
            return use.node.outputs[0]
    scale = initializer(graph, f"{source.name}_scale", np.array(activation.scale, np.float32))
    zero_point = initializer(graph, f"{source.name}_zero_point", np.array(activation.zero_point, np.uint8))
    node = ir.node("QuantizeLinear", [source, scale, zero_point])
    producer = source.producer()
    assert producer is not None
    return append_after(graph, producer, node)


def _pixels_of(source: ir.Value) -> ir.Value | None:
    """The uint8 value that `source` is a mere cast of, if it is one: it needs no quantization."""
    producer = source.producer()
    if producer is None or producer.op_type != "Cast" or producer.inputs[0] is None:
        return None
    return producer.inputs[0] if producer.inputs[0].dtype == ir.DataType.UINT8 else None
