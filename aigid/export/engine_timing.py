"""Run a repository's TensorRT engines on this host's GPU: speed, and difference from the graphs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from aigid.contract import ModelContract, load_contract
from aigid.errors import BuildError, ContractError
from aigid.export.engine_profiles import Profile, engine_profiles
from aigid.export.model_configs import GPU_GRAPH
from aigid.export.tensorrt_compiler import Compiler, collecting_logger, import_compiler
from aigid.scorers import PARTS, ModelSpec, model_specs

Feed = Mapping[str, npt.NDArray[Any]]

RUNS, WARM_UP_RUNS = 20, 3

_TORCH_TYPES = {"TYPE_UINT8": torch.uint8, "TYPE_INT32": torch.int32, "TYPE_FP32": torch.float32}


@dataclass(frozen=True)
class Timing:
    """One profile of one engine at its optimum shape.

    `delta` is the largest |difference| from the fp16 graph on the CPU.
    """

    part: str
    profile: str
    milliseconds: float
    rows_per_second: float
    delta: float


class EngineRunner:
    """A plan that is loaded on the GPU."""

    def __init__(self, plan: Path, compiler: Compiler, spec: ModelSpec) -> None:
        """Load the plan.

        Raises ContractError if there is no such file, and BuildError if this host cannot run it.
        """
        if not plan.is_file():
            raise ContractError(
                f"{plan}: no such file: compile the engines first, with build_engines of "
                "aigid.export or, in a checkout, build/onnx_to_tensorrt.py"
            )
        trt = import_compiler(compiler)
        if not torch.cuda.is_available():
            raise BuildError(
                "torch finds no GPU on this host: time engines on the host that will serve them"
            )
        logger = collecting_logger(trt)
        self._spec = spec
        self._engine = trt.Runtime(logger).deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            reasons = "; ".join(logger.messages) or "no reason given"
            raise BuildError(f"{plan}: {compiler} {trt.__version__} cannot load it: {reasons}")
        self._context = self._engine.create_execution_context()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def run(
        self, number: int, feed: Feed, runs: int
    ) -> tuple[dict[str, npt.NDArray[Any]], list[float]]:
        """Return the outputs with profile `number`, and the seconds of each of `runs` runs.

        Copying the inputs to the GPU is not timed.
        """
        self._context.set_optimization_profile_async(number, self._stream.cuda_stream)
        inputs = {
            name: torch.from_numpy(np.ascontiguousarray(value)).cuda()
            for name, value in feed.items()
        }
        rows = len(next(iter(feed.values())))
        outputs = {
            tensor.name: torch.empty(
                (rows, *tensor.dims), dtype=_TORCH_TYPES[tensor.data_type], device="cuda"
            )
            for tensor in self._spec.outputs
        }
        for name, value in inputs.items():
            self._context.set_input_shape(name, tuple(value.shape))
        for name, value in {**inputs, **outputs}.items():
            self._context.set_tensor_address(name, value.data_ptr())
        # The copies run on torch's own stream, and must end before this stream reads them.
        torch.cuda.synchronize()
        seconds = [self._run_once() for _ in range(runs)]
        return {name: value.cpu().numpy() for name, value in outputs.items()}, seconds

    def _run_once(self) -> float:
        start = time.perf_counter()
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise BuildError("the engine did not run: the compiler printed the reason above")
        self._stream.synchronize()
        return time.perf_counter() - start


def example_of(spec: ModelSpec, profile: Profile, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Return random inputs of the profile's optimum shape, without padding.

    Token ids are below 10, which every vocabulary has.
    """
    generator, feed = np.random.default_rng(seed), {}
    for tensor in spec.inputs:
        shape = profile.shapes[tensor.name][1]
        if tensor.data_type == "TYPE_FP32":
            feed[tensor.name] = generator.normal(size=shape).astype(np.float32)
        elif tensor.data_type == "TYPE_UINT8":
            feed[tensor.name] = generator.integers(0, 256, shape, np.uint8)
        elif tensor.name == "attention_mask":
            feed[tensor.name] = np.ones(shape, np.int32)
        else:
            feed[tensor.name] = generator.integers(0, 10, shape, np.int32)
    return feed


def time_engines(
    repository: Path, engines: Path, compiler: Compiler = Compiler.TENSORRT
) -> list[Timing]:
    """Run every profile of the engines of a repository's current version.

    `engines` is the folder of the plans, usually the repository itself. Raises ContractError if a
    plan is missing, MissingExtraError if the runtime is, and BuildError if there is no GPU or it
    cannot load a plan.
    """
    contract = load_contract(repository)
    timings: list[Timing] = []
    for part in PARTS:
        folder, spec = Path(part, str(contract.version)), model_specs(contract)[part]
        engine = EngineRunner(engines / folder / GPU_GRAPH, compiler, spec)
        timings += _time_part(engine, repository / folder / "model.fp16.onnx", contract, part)
    return timings


def _time_part(
    engine: EngineRunner, graph: Path, contract: ModelContract, part: str
) -> list[Timing]:
    spec = model_specs(contract)[part]
    reference = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names, timings = [tensor.name for tensor in spec.outputs], []
    for number, profile in enumerate(engine_profiles(contract, part)):
        feed = example_of(spec, profile)
        engine.run(number, feed, WARM_UP_RUNS)
        outputs, seconds = engine.run(number, feed, RUNS)
        expected = reference.run(names, feed)
        delta = max(
            float(np.abs(outputs[name] - value).max())
            for name, value in zip(names, expected, strict=True)
        )
        rows = len(next(iter(feed.values())))
        timings.append(
            Timing(part, profile.name, 1e3 * median(seconds), rows / median(seconds), delta)
        )
    return timings
