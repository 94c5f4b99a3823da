"""Compile the strongly typed fp16 graphs of a model repository into TensorRT engines."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from aigid.contract import ModelContract, load_contract
from aigid.errors import BuildError, ContractError, UsageError
from aigid.export.engine_profiles import Profile, engine_profiles
from aigid.export.graph_metadata import GraphFacts
from aigid.export.model_configs import GPU_GRAPH
from aigid.export.repository_lock import locked_repository
from aigid.export.tensorrt_compiler import (
    Compiler,
    collecting_logger,
    compute_capability,
    first_gpu,
    import_compiler,
)
from aigid.scorers import BUILD_COMMAND, PARTS
from aigid.storage import locate, write_atomic

_ERRORS_SHOWN = 5
_MAX_OPTIMISATION_LEVEL = 5


@dataclass(frozen=True)
class EngineSettings:
    """How engines are compiled.

    `compute_capabilities`, such as "8.9", are the GPUs that TensorRT for RTX compiles for. The file
    `timing_cache` spares TensorRT from timing the same kernels again; it belongs to one version of
    TensorRT and one GPU.
    """

    compiler: Compiler = Compiler.TENSORRT
    compute_capabilities: tuple[str, ...] = ()
    timing_cache: Path | None = None
    workspace_mib: int = 4096
    optimisation_level: int = 3

    def __post_init__(self) -> None:
        if self.compiler not in list(Compiler):
            raise UsageError(f"`compiler` must be {' or '.join(Compiler)}: got {self.compiler}")
        if self.compute_capabilities and self.compiler != Compiler.TENSORRT_RTX:
            raise UsageError(
                "`compute_capabilities` needs the compiler tensorrt_rtx: "
                "tensorrt compiles for the GPU of this host"
            )
        if self.timing_cache is not None and self.compiler != Compiler.TENSORRT:
            raise UsageError(
                "`timing_cache` needs the compiler tensorrt: tensorrt_rtx does not time kernels"
            )
        if self.workspace_mib < 1:
            raise UsageError(f"`workspace_mib` must be at least 1: got {self.workspace_mib}")
        if not 0 <= self.optimisation_level <= _MAX_OPTIMISATION_LEVEL:
            raise UsageError(
                f"`optimisation_level` must be from 0 to {_MAX_OPTIMISATION_LEVEL}: "
                f"got {self.optimisation_level}"
            )


@dataclass(frozen=True)
class EngineFacts:
    """What a plan was built from, with and for: the file `model.plan.json`."""

    part: str
    model_fingerprint: str
    graph_sha256: str
    plan_sha256: str
    compiler: str
    compiler_version: str
    gpu: tuple[str, ...]
    workspace_mib: int
    optimisation_level: int
    profiles: tuple[Profile, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as `model.plan.json` holds them."""
        profiles = [{"name": profile.name, **profile.as_trtexec()} for profile in self.profiles]
        return {**vars(self), "gpu": list(self.gpu), "profiles": profiles}


@dataclass(frozen=True)
class Engine:
    """A compiled graph and the facts about it."""

    plan: bytes
    facts: EngineFacts


class EngineBuilder:
    """A running compiler, which compiles graphs one after the other."""

    def __init__(self, settings: EngineSettings) -> None:
        """Start the compiler.

        Raises MissingExtraError if it is not installed, and BuildError if it does not start.
        """
        self._settings = settings
        self._trt = import_compiler(settings.compiler)
        self._logger = collecting_logger(self._trt)
        try:
            self._builder = self._trt.Builder(self._logger)
        except (RuntimeError, TypeError) as error:
            # Without a usable driver the factory returns nothing, and the binding raises TypeError.
            reasons = "; ".join(self._logger.messages) or str(error)
            raise BuildError(
                f"{settings.compiler} does not start: {reasons}; "
                "check that this host has a GPU and its driver"
            ) from error

    def build(self, graph: Path, profiles: Sequence[Profile]) -> Engine:
        """Compile a graph with all its optimisation profiles.

        Raises BuildError with the compiler's reason if it refuses an operator, a profile or the
        network.
        """
        self._logger.messages.clear()
        network, parser = self._parsed(graph)
        config = self._config(profiles)
        plan = self._builder.build_serialized_network(network, config)
        if plan is None:
            raise BuildError(
                f"{graph}: {self._settings.compiler} cannot compile it: {self._reasons()}"
            )
        # The parser holds the weights that the network points to, so it must outlive the build.
        del parser
        if self._settings.timing_cache is not None:
            cache = bytes(config.get_timing_cache().serialize())
            write_atomic(locate(str(self._settings.timing_cache)), cache)
        data = bytes(plan)
        return Engine(data, self._facts(graph, profiles, data))

    def _parsed(self, graph: Path) -> tuple[Any, Any]:
        kinds = self._trt.NetworkDefinitionCreationFlag
        # TensorRT 10 needs the flag. Later versions know only such networks, and may lack the flag.
        flags = 1 << int(kinds.STRONGLY_TYPED) if hasattr(kinds, "STRONGLY_TYPED") else 0
        network = self._builder.create_network(flags)
        parser = self._trt.OnnxParser(network, self._logger)
        if not parser.parse_from_file(str(graph)):
            shown = range(min(parser.num_errors, _ERRORS_SHOWN))
            errors = "; ".join(_parser_error(parser.get_error(number)) for number in shown)
            raise BuildError(f"{graph}: {self._settings.compiler} cannot parse it: {errors}")
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
                    f"profile {profile.name}: {settings.compiler} refuses the shapes "
                    f"{profile.shapes}: {self._reasons()}"
                )
        if settings.timing_cache is not None:
            kept = settings.timing_cache.read_bytes() if settings.timing_cache.is_file() else b""
            config.set_timing_cache(config.create_timing_cache(kept), False)
        if settings.compute_capabilities:
            config.num_compute_capabilities = len(settings.compute_capabilities)
            for number, name in enumerate(settings.compute_capabilities):
                config.set_compute_capability(compute_capability(trt, name), number)
        return config

    def _facts(self, graph: Path, profiles: Sequence[Profile], plan: bytes) -> EngineFacts:
        settings, facts = self._settings, GraphFacts.of(onnx.load(graph, load_external_data=False))
        return EngineFacts(
            part=facts.part,
            model_fingerprint=facts.fingerprint,
            graph_sha256=hashlib.sha256(graph.read_bytes()).hexdigest(),
            plan_sha256=hashlib.sha256(plan).hexdigest(),
            compiler=str(settings.compiler),
            compiler_version=self._trt.__version__,
            gpu=tuple(settings.compute_capabilities) or first_gpu(),
            workspace_mib=settings.workspace_mib,
            optimisation_level=settings.optimisation_level,
            profiles=tuple(profiles),
        )

    def _reasons(self) -> str:
        return "; ".join(self._logger.messages[-_ERRORS_SHOWN:]) or "no reason given"


def build_engines(repository: Path, out: Path, settings: EngineSettings) -> dict[str, int]:
    """Compile the fp16 graphs of a repository's current version; return plan sizes by path.

    `out` is the repository itself, or another folder. A `model.plan.json` next to each `model.plan`
    holds its EngineFacts. If any part fails, no plan is put in place and AigidError is raised.
    """
    contract = load_contract(repository)
    if settings.compiler == Compiler.TENSORRT_RTX and out.resolve() == repository.resolve():
        raise UsageError(
            "`out` must be a folder other than the repository: "
            "Triton cannot load engines of TensorRT for RTX"
        )
    graphs = {part: repository / part / str(contract.version) / "model.fp16.onnx" for part in PARTS}
    for path in graphs.values():
        if not path.is_file():
            raise ContractError(
                f"{path}: no such file; engines are compiled from fp16 graphs: "
                f"build them with: {BUILD_COMMAND}"
            )
    builder = EngineBuilder(settings)
    with locked_repository(out) as scratch:
        for part, graph in graphs.items():
            engine = builder.build(graph, engine_profiles(contract, part))
            (scratch / part).mkdir()
            (scratch / part / GPU_GRAPH).write_bytes(engine.plan)
            facts = json.dumps(engine.facts.to_json(), indent=2) + "\n"
            (scratch / part / f"{GPU_GRAPH}.json").write_text(facts, encoding="utf-8")
        # After all parts are compiled: a server must not find plans of two builds.
        return _put_in_place(scratch, out, contract)


def _put_in_place(scratch: Path, out: Path, contract: ModelContract) -> dict[str, int]:
    sizes = {}
    for part in PARTS:
        folder = out / part / str(contract.version)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (GPU_GRAPH, f"{GPU_GRAPH}.json"):
            (scratch / part / name).replace(folder / name)
        sizes[str(folder / GPU_GRAPH)] = (folder / GPU_GRAPH).stat().st_size
    return sizes


def _parser_error(error: Any) -> str:
    return f"node {error.node_name() or error.node()} ({error.node_operator()}): {error.desc()}"
