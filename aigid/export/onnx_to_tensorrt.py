"""The strongly typed fp16 graphs of a model repository to TensorRT engines, with TensorRT or TensorRT for RTX.

TensorRT compiles for the GPU of the machine it runs on, and times kernels there. TensorRT for RTX is the same API and
compiler family; it compiles for chosen GPUs ahead of time, on a machine that has none. Its engines want its own runtime:
Triton serves those of TensorRT.
"""

import hashlib
import importlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import onnx

from aigid.contract import load_contract
from aigid.errors import BuildError, ContractError, MissingExtraError, UsageError
from aigid.export.engine_profiles import Profile, engine_profiles
from aigid.export.graph_metadata import graph_facts
from aigid.export.model_configs import GPU_GRAPH
from aigid.export.repository_lock import locked_repository
from aigid.scorers.tensors import PARTS
from aigid.storage import locate, write_atomic

_ERRORS_SHOWN = 5


class Compiler(StrEnum):
    """Which of the two compilers, by the name of its Python package."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt_rtx"


@dataclass(frozen=True)
class EngineSettings:
    """How engines are compiled.

    `compute_capabilities` ("8.9") are what TensorRT for RTX compiles for; the `timing_cache` file spares TensorRT from
    timing the same kernels again, and is specific to its version and the GPU.
    """

    compiler: Compiler = Compiler.TENSORRT
    compute_capabilities: tuple[str, ...] = ()
    timing_cache: Path | None = None
    workspace_mib: int = 4096
    optimisation_level: int = 3

    def __post_init__(self) -> None:
        rtx = self.compiler is Compiler.TENSORRT_RTX
        if self.compute_capabilities and not rtx:
            raise UsageError(
                "--compute-capability: TensorRT compiles for the GPU of this machine; it goes with tensorrt_rtx"
            )
        if self.timing_cache is not None and rtx:
            raise UsageError(
                "--timing-cache: TensorRT for RTX times nothing while it compiles; it goes with tensorrt"
            )


@dataclass(frozen=True)
class Engine:
    """A compiled graph, and what is to be known of it."""

    plan: bytes
    facts: dict[str, Any]


class EngineBuilder:
    """One compiler, ready to compile graphs one after the other."""

    def __init__(self, settings: EngineSettings) -> None:
        """Start the compiler; raises MissingExtraError where it is not installed, and BuildError where it does not start."""
        self._settings = settings
        self._trt = import_compiler(settings.compiler)
        self._logger = collecting_logger(self._trt)
        try:
            self._builder = self._trt.Builder(self._logger)
        except (RuntimeError, TypeError) as error:
            # Without a usable driver the factory gives no builder, of which the binding makes a TypeError.
            reasons = "; ".join(self._logger.errors()) or str(error)
            raise BuildError(
                f"{settings.compiler} does not start: {reasons}; is there a GPU and its driver?"
            ) from error

    def build(self, graph: Path, profiles: Sequence[Profile]) -> Engine:
        """Compile a graph with all its optimisation profiles.

        Raises BuildError with the compiler's own reason where it refuses an operator, a profile or the whole.
        """
        self._logger.clear()
        network, parser = self._parsed(graph)
        config = self._config(profiles)
        plan = self._builder.build_serialized_network(network, config)
        if plan is None:
            raise BuildError(
                f"{graph}: {self._settings.compiler} cannot compile it: {self._reasons()}"
            )
        # The parser holds the weights that the network points to: it must outlive the compilation.
        del parser
        if self._settings.timing_cache is not None:
            write_atomic(
                locate(str(self._settings.timing_cache)),
                bytes(config.get_timing_cache().serialize()),
            )
        data = bytes(plan)
        return Engine(data, self._facts(graph, profiles, data))

    def _parsed(self, graph: Path) -> tuple[Any, Any]:
        kinds = self._trt.NetworkDefinitionCreationFlag
        # TensorRT 10 must be asked for it; later ones know no other networks, and may not have the flag.
        flags = 1 << int(kinds.STRONGLY_TYPED) if hasattr(kinds, "STRONGLY_TYPED") else 0
        network = self._builder.create_network(flags)
        parser = self._trt.OnnxParser(network, self._logger)
        if not parser.parse_from_file(str(graph)):
            errors = [
                _parser_error(parser.get_error(number))
                for number in range(min(parser.num_errors, _ERRORS_SHOWN))
            ]
            raise BuildError(
                f"{graph}: {self._settings.compiler} cannot take this graph: {'; '.join(errors)}"
            )
        return network, parser

    def _config(self, profiles: Sequence[Profile]) -> Any:
        settings, trt = self._settings, self._trt
        config = self._builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
        config.builder_optimization_level = settings.optimisation_level
        for profile in profiles:
            shapes = self._builder.create_optimization_profile()
            for name, (least, best, greatest) in profile.shapes.items():
                shapes.set_shape(name, least, best, greatest)
            if config.add_optimization_profile(shapes) < 0:
                raise BuildError(
                    f"profile {profile.name}: {settings.compiler} refuses its shapes {profile.shapes}"
                )
        if settings.timing_cache is not None:
            kept = settings.timing_cache.read_bytes() if settings.timing_cache.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(kept), False)
        if settings.compute_capabilities:
            config.num_compute_capabilities = len(settings.compute_capabilities)
            for number, name in enumerate(settings.compute_capabilities):
                config.set_compute_capability(_compute_capability(trt, name), number)
        return config

    def _facts(self, graph: Path, profiles: Sequence[Profile], plan: bytes) -> dict[str, Any]:
        settings, facts = self._settings, graph_facts(onnx.load(graph, load_external_data=False))
        target = list(settings.compute_capabilities) or _this_gpu()
        return {
            "part": facts["aigid.part"],
            "model_fingerprint": facts["aigid.fingerprint"],
            "graph_sha256": hashlib.sha256(graph.read_bytes()).hexdigest(),
            "plan_sha256": hashlib.sha256(plan).hexdigest(),
            "compiler": str(settings.compiler),
            "compiler_version": self._trt.__version__,
            "gpu": target,
            "workspace_mib": settings.workspace_mib,
            "optimisation_level": settings.optimisation_level,
            "profiles": [{"name": profile.name, **profile.as_trtexec()} for profile in profiles],
        }

    def _reasons(self) -> str:
        return "; ".join(self._logger.errors()[-_ERRORS_SHOWN:]) or "it gives no reason"


def build_engines(repository: Path, out: Path, settings: EngineSettings) -> dict[str, int]:
    """Compile the fp16 graphs of a repository's current version; gives the size in bytes of each plan by its path.

    A JSON beside each `model.plan` says what it was made from and for. Where any part fails, none is put in its place:
    raises AigidError.
    """
    contract = load_contract(repository)
    if settings.compiler is Compiler.TENSORRT_RTX and out.resolve() == repository.resolve():
        raise UsageError(
            "engines of TensorRT for RTX are not for Triton: give another folder with --out"
        )
    graphs = {part: repository / part / str(contract.version) / "model.fp16.onnx" for part in PARTS}
    for path in graphs.values():
        if not path.is_file():
            raise ContractError(
                f"{path}: no such file; engines are made of fp16 graphs: build the repository with them"
            )
    builder, sizes = EngineBuilder(settings), {}
    with locked_repository(out) as scratch:
        for part, graph in graphs.items():
            engine = builder.build(graph, engine_profiles(contract, part))
            (scratch / part).mkdir()
            (scratch / part / GPU_GRAPH).write_bytes(engine.plan)
            (scratch / part / f"{GPU_GRAPH}.json").write_text(
                json.dumps(engine.facts, indent=2) + "\n", encoding="utf-8"
            )
        # Only when all are there: a server must not find plans of two builds.
        for part in graphs:
            folder = out / part / str(contract.version)
            folder.mkdir(parents=True, exist_ok=True)
            sizes[str(folder / GPU_GRAPH)] = (scratch / part / GPU_GRAPH).stat().st_size
            for name in (GPU_GRAPH, f"{GPU_GRAPH}.json"):
                (scratch / part / name).replace(folder / name)
    return sizes


def import_compiler(compiler: Compiler) -> Any:
    """The compiler's package; raises MissingExtraError where it is not installed."""
    try:
        return importlib.import_module(compiler)
    except ImportError as error:
        extra = compiler.replace("_", "-")
        raise MissingExtraError(
            f"{compiler} cannot be imported ({error}): pip install 'aigid[{extra}]'"
        ) from error


def collecting_logger(trt: Any) -> Any:
    """A logger that keeps what the compiler says, for the error that may follow."""

    class CollectingLogger(trt.ILogger):  # type: ignore[misc] # a class of whichever compiler was imported
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[Any, str]] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.messages.append((severity, message))

        def errors(self) -> list[str]:
            return [message for _, message in self.messages]

        def clear(self) -> None:
            self.messages.clear()

    return CollectingLogger()


def _parser_error(error: Any) -> str:
    return f"node {error.node_name() or error.node()} ({error.node_operator()}): {error.desc()}"


def _compute_capability(trt: Any, name: str) -> Any:
    known = {
        f"{key[2:-1]}.{key[-1]}": value
        for key, value in trt.ComputeCapability.__members__.items()
        if key[:2] == "SM"
    }
    if name not in known:
        raise UsageError(
            f"--compute-capability {name}: this compiler knows {', '.join(sorted(known, key=float))}"
        )
    return known[name]


def _this_gpu() -> list[str]:
    """The first GPU, "NVIDIA L4 (8.9)", from the driver's own tool; TensorRT's Python API does not tell."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    name, _, capability = answer.strip().rpartition(", ")
    return [f"{name} ({capability})"]
