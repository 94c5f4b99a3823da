"""The quantization methods and runtimes that `int8_comparison.py` compares."""

import io
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers import optimizer

from aigid.export.graph_fusion import fuse_for_cpu
from aigid.export.onnx_to_int8 import EncoderQuantizer, Feed

Features = npt.NDArray[np.float32]
Run = Callable[[Feed], Features]
Maker = Callable[[Path, Path, Sequence[Feed]], None]

PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True)
class Method:
    """A quantization method and the runtime for its graphs.

    `make` takes the fp32 graph, the target, and calibration feeds of one row each. `timed` is False
    for methods that differ from another only in their scales, and so not in speed.
    """

    name: str
    make: Maker
    load: Callable[[Path, int], Run] = field(default_factory=lambda: load_onnxruntime)
    timed: bool = True


def load_onnxruntime(graph: Path, threads: int) -> Run:
    """Load a graph in ONNX Runtime on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, ["CPUExecutionProvider"])
    return lambda feed: session.run(None, dict(feed))[0]


def load_openvino(graph: Path, threads: int) -> Run:
    """Load a graph in OpenVINO on the CPU."""
    import openvino  # extra `bench`

    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(str(graph), "CPU", hints)
    return lambda feed: np.array(model(dict(feed))[0])


def keep(source: Path, target: Path, feeds: Sequence[Feed]) -> None:
    """Copy the exported fp32 graph."""
    shutil.copyfile(source, target)


def dynamic(source: Path, target: Path, feeds: Sequence[Feed]) -> None:
    """Quantize with ONNX Runtime's dynamic method, whose activation scales depend on each batch."""
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=list(PRODUCTS),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


@dataclass(frozen=True)
class Static:
    """ONNX Runtime's static quantization to QDQ, after `prepare`.

    `operators` are quantized; None means every operator that ONNX Runtime can quantize.
    """

    calibration: CalibrationMethod = CalibrationMethod.MinMax
    operators: Sequence[str] | None = PRODUCTS
    seven_bit_weights: bool = False
    prepare: Callable[[Path, Path], None] = shutil.copyfile

    def __call__(self, source: Path, target: Path, feeds: Sequence[Feed]) -> None:
        """Quantize `source` into `target`."""
        prepared = target.with_suffix(".prepared.onnx")
        self.prepare(source, prepared)
        options: dict[str, Any] = {"MatMulConstBOnly": True} if self.operators else {}
        # quantize_static prints its progress.
        with redirect_stdout(io.StringIO()):
            quantize_static(
                prepared,
                target,
                _Reader(feeds),
                op_types_to_quantize=self.operators and list(self.operators),
                per_channel=True,
                reduce_range=self.seven_bit_weights,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=self.calibration,
                extra_options=options,
            )
        prepared.unlink()


def ours(source: Path, target: Path, feeds: Sequence[Feed]) -> None:
    """Quantize as `build/onnx_to_int8.py` does."""
    quantizer = EncoderQuantizer(onnx.load(source))
    for feed in feeds:
        quantizer.observe(feed)
    onnx.save(quantizer.quantized(), target)


def transformer_fusions(source: Path, target: Path) -> None:
    """Apply ONNX Runtime's own fusions for transformers."""
    kind = "bert" if "bert" in source.name else "clip"
    optimizer.optimize_model(str(source), model_type=kind, opt_level=0).save_model_to_file(
        str(target)
    )


def our_fusions(source: Path, target: Path) -> None:
    """Apply the fusions of `aigid.export.graph_fusion`, without quantizing."""
    model = ir.load(source)
    fuse_for_cpu(model)
    onnx.save(ir.to_proto(model), target)


class _Reader(CalibrationDataReader):  # type: ignore[misc] # no type information
    def __init__(self, feeds: Sequence[Feed]) -> None:
        # ONNX Runtime's histograms need rows of one length: short prompts are padded and masked.
        longest = max(value.shape[1] for feed in feeds for value in feed.values())
        self._feeds: Iterator[Feed] = iter(
            [{name: _padded(value, longest) for name, value in feed.items()} for feed in feeds]
        )

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _padded(value: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    return np.pad(value, ((0, 0), (0, length - value.shape[1]), *((0, 0),) * (value.ndim - 2)))


FP32, SHIPPED = "fp32, ONNX Runtime", "build/onnx_to_int8.py (shipped)"

METHODS = (
    Method(FP32, keep),
    Method("fp32, OpenVINO", keep, load_openvino),
    Method("dynamic", dynamic),
    Method("QDQ, MinMax", Static()),
    Method("QDQ, MinMax, 7-bit weights", Static(seven_bit_weights=True)),
    Method("QDQ, Entropy", Static(CalibrationMethod.Entropy), timed=False),
    Method("QDQ, Percentile", Static(CalibrationMethod.Percentile), timed=False),
    Method("QDQ, MinMax, every operator", Static(operators=None)),
    Method("QDQ, MinMax, ONNX Runtime's fusions before", Static(prepare=transformer_fusions)),
    Method("QDQ, MinMax, our fusions before", Static(prepare=our_fusions)),
    Method("QDQ, MinMax, on OpenVINO", Static(), load_openvino),
    Method(SHIPPED, ours),
)

# The quantizers advise to prepare graphs in a way that changes nothing here.
logging.disable(logging.WARNING)
