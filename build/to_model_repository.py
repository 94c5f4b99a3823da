"""Built graphs to a model repository, as Triton serves it and as the embedded scorer reads it."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from graph_metadata import PARTS, graph_facts

from aigid.contract import CONTRACT_FILE, TOKENIZER_FILE, ModelContract, save_contract
from aigid.errors import CheckpointError
from aigid.training.checkpoint import Checkpoint, replace_folder
from aigid.training.fusion_model import encoder_width

ENSEMBLE = "aigid"
MAX_BATCH_ROWS = 256
GPU_GRAPH = "model.plan"

# How long Triton may hold a request back to merge it with others: little beside the 20 ms and more that a batch takes.
MERGE_DELAY_US = 2000


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as Triton's configuration describes it: `dims` without the batch, -1 where the length varies."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class PartSpec:
    """What goes into and comes out of one model of the repository."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def part_specs(contract: ModelContract) -> dict[str, PartSpec]:
    """The tensors of the three graphs and of the ensemble, as the contract has them."""
    side = contract.image.size
    image = TensorSpec("image", "TYPE_UINT8", (side, side, 3))
    tokens = (TensorSpec("input_ids", "TYPE_INT32", (-1,)), TensorSpec("attention_mask", "TYPE_INT32", (-1,)))
    text_features = TensorSpec("text_features", "TYPE_FP32", (contract.text_features,))
    image_features = TensorSpec("image_features", "TYPE_FP32", (contract.image_features,))
    answers = (TensorSpec("p_ai", "TYPE_FP32", (1,)), TensorSpec("p_source", "TYPE_FP32", (len(contract.labels),)))
    return {
        "bert": PartSpec(tokens, (text_features,)),
        "clip_vision": PartSpec((image,), (image_features,)),
        "fusion_heads": PartSpec((text_features, image_features), answers),
        ENSEMBLE: PartSpec((image, *tokens), answers),
    }


def model_configs(contract: ModelContract) -> dict[str, str]:
    """Every config.pbtxt of the repository by its path: TensorRT by default, `configs/cpu.pbtxt` for ONNX Runtime."""
    specs = part_specs(contract)
    configs = {f"{ENSEMBLE}/config.pbtxt": _ensemble_config(specs)}
    cpu_graph = f"model.{contract.cpu_precision}.onnx"
    for part in PARTS:
        head = _head(part, specs[part])
        gpu = f'platform: "tensorrt_plan"\ndefault_model_filename: "{GPU_GRAPH}"\n' + _scheduling("KIND_GPU")
        cpu = f'backend: "onnxruntime"\ndefault_model_filename: "{cpu_graph}"\n' + _scheduling("KIND_CPU")
        configs[f"{part}/config.pbtxt"] = head + gpu
        configs[f"{part}/configs/cpu.pbtxt"] = head + cpu
    return configs


def contract_of(checkpoint: Checkpoint) -> ModelContract:
    """The contract of the model in a checkpoint."""
    info = checkpoint.info
    return ModelContract(
        name=info.name,
        notice=info.notice,
        text_features=encoder_width(checkpoint.model.text_encoder),
        image_features=encoder_width(checkpoint.model.image_encoder),
        fingerprint=checkpoint.fingerprint,
        image=info.image,
        prompt=info.prompt,
        temperatures=info.temperatures,
        thresholds=info.thresholds,
    )


def write_repository(checkpoint: Checkpoint, graphs: Mapping[str, Mapping[str, Path]], repository: Path) -> ModelContract:
    """Write `graphs` (paths by precision and part) with contract, tokenizer and configs to the folder `repository`.

    Models of the repository that are not built here stay. All is made beside the repository and then put in its place:
    a failed build leaves it as it was. Raises CheckpointError where a graph was made from another checkpoint.
    """
    contract = contract_of(checkpoint)
    for paths in graphs.values():
        _check_graphs(paths, contract)
    with _replacing(repository) as folder:
        if repository.is_dir():
            _copy_others(repository, folder)
        for precision, paths in graphs.items():
            for part, path in paths.items():
                target = folder / part / str(contract.version) / f"model.{precision}.onnx"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        _write_descriptions(contract, checkpoint.tokenizer_file, folder)
    return contract


def _write_descriptions(contract: ModelContract, tokenizer_file: Path, folder: Path) -> None:
    for name, text in model_configs(contract).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    # Triton wants a version folder even of an ensemble, which has no file to put there; git keeps no empty folder.
    keep = folder / ENSEMBLE / str(contract.version) / ".gitkeep"
    keep.parent.mkdir(parents=True, exist_ok=True)
    keep.touch()
    shutil.copyfile(tokenizer_file, folder / TOKENIZER_FILE)
    save_contract(contract, folder)


def _check_graphs(paths: Mapping[str, Path], contract: ModelContract) -> None:
    for part, path in paths.items():
        facts = graph_facts(onnx.load(path))
        found = facts.get("aigid.part"), facts.get("aigid.fingerprint")
        wanted = part, contract.fingerprint
        if found != wanted:
            raise CheckpointError(f"{path}: is {found[0]} of model {found[1]}, not {part} of model {wanted[1]}: export it anew")


def _copy_others(repository: Path, folder: Path) -> None:
    """Copy what other tools and people put into the repository; the weights of the former model stay behind."""
    for item in sorted(repository.iterdir()):
        if item.name in (CONTRACT_FILE, TOKENIZER_FILE, *PARTS, ENSEMBLE):
            continue
        if item.is_dir():
            shutil.copytree(item, folder / item.name)
        else:
            shutil.copy2(item, folder / item.name)


@contextmanager
def _replacing(repository: Path) -> Iterator[Path]:
    """A new folder beside `repository` that takes its place when all went well."""
    repository = repository.resolve()
    repository.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{repository.name}.", dir=repository.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        replace_folder(temporary, repository)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _head(name: str, spec: PartSpec) -> str:
    inputs = "".join(_tensor("input", tensor) for tensor in spec.inputs)
    outputs = "".join(_tensor("output", tensor) for tensor in spec.outputs)
    return f'name: "{name}"\nmax_batch_size: {MAX_BATCH_ROWS}\n{inputs}{outputs}'


def _tensor(kind: str, tensor: TensorSpec) -> str:
    dims = ", ".join(map(str, tensor.dims))
    return f'{kind} {{\n  name: "{tensor.name}"\n  data_type: {tensor.data_type}\n  dims: [ {dims} ]\n}}\n'


def _scheduling(kind: str) -> str:
    merging = f"dynamic_batching {{\n  max_queue_delay_microseconds: {MERGE_DELAY_US}\n}}\n"
    return f"instance_group {{\n  count: 1\n  kind: {kind}\n}}\n{merging}"


def _ensemble_config(specs: Mapping[str, PartSpec]) -> str:
    steps = "".join(_step(part, specs[part]) for part in PARTS)
    return _head(ENSEMBLE, specs[ENSEMBLE]) + f'platform: "ensemble"\nensemble_scheduling {{\n{steps}}}\n'


def _step(part: str, spec: PartSpec) -> str:
    maps = [("input_map", tensor.name) for tensor in spec.inputs] + [("output_map", tensor.name) for tensor in spec.outputs]
    lines = "".join(f'    {kind} {{ key: "{name}" value: "{name}" }}\n' for kind, name in maps)
    return f'  step {{\n    model_name: "{part}"\n    model_version: -1\n{lines}  }}\n'
