"""Quantize fp32 graphs to INT8 for CPUs.

Encoders are fused, and their activation scales are static, so that no row's result depends on the
rest of its batch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort

from aigid.errors import AigidError
from aigid.export.graph_fusion import fuse_for_cpu
from aigid.export.graph_metadata import GraphFacts, describe_graph, write_graph
from aigid.export.int8_scales import ChannelStatistics
from aigid.export.integer_products import products_by_input, quantize_products
from aigid.export.sample_rows import SampleRow

Feed = Mapping[str, npt.NDArray[Any]]

CALIBRATION_ROWS = 256


class EncoderQuantizer:
    """Quantizes one fp32 encoder: call `observe` for every calibration row, then `quantized`."""

    def __init__(self, fp32: onnx.ModelProto) -> None:
        self._facts = GraphFacts.of(fp32)
        self._model = ir.from_proto(fp32)
        fuse_for_cpu(self._model)
        self._products = products_by_input(self._model.graph)
        self._names = [value.name or "" for value in self._products]
        self._session = ort.InferenceSession(self._probe(), providers=["CPUExecutionProvider"])
        self._seen: dict[str, ChannelStatistics] = {}

    def observe(self, feed: Feed) -> None:
        """Run one calibration batch, which must have no padding, and record its activations."""
        activations = self._session.run(self._names, dict(feed))
        for name, activation in zip(self._names, activations, strict=True):
            if name not in self._seen:
                self._seen[name] = ChannelStatistics(activation.shape[-1])
            self._seen[name].add(activation)

    def quantized(self) -> onnx.ModelProto:
        """Return the INT8 graph. Call this once: it takes the float graph apart.

        Raises AigidError if no calibration rows were observed.
        """
        if not self._seen:
            raise AigidError("observe calibration rows before an encoder is quantized")
        quantize_products(self._model, self._products, self._seen)
        model = ir.to_proto(self._model)
        describe_graph(model, self._facts.part, self._facts.fingerprint, "int8")
        return model

    def _probe(self) -> bytes:
        """Return the float graph with the inputs of all products as its outputs."""
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
    """Write the INT8 graphs of both encoders into `folder`; return their paths by part.

    `graphs` are their fp32 graphs by part, `rows` the calibration rows. `fusion_heads` among the
    graphs is written too. It stays in float32: it takes no time, and it decides.
    """
    bert = EncoderQuantizer(onnx.load(graphs["bert"]))
    clip_vision = EncoderQuantizer(onnx.load(graphs["clip_vision"]))
    for row in rows:
        bert.observe({"input_ids": row.input_ids, "attention_mask": np.ones_like(row.input_ids)})
        clip_vision.observe({"image": row.image})
    built = {"bert": bert.quantized(), "clip_vision": clip_vision.quantized()}
    if "fusion_heads" in graphs:
        heads = onnx.load(graphs["fusion_heads"])
        describe_graph(heads, "fusion_heads", GraphFacts.of(heads).fingerprint, "int8")
        built["fusion_heads"] = heads
    paths = {part: folder / f"{part}.int8.onnx" for part in built}
    for part, path in paths.items():
        write_graph(built[part], path)
    return paths
