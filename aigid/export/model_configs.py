"""Triton's configurations of every model of the repository, derived from its contract.

`config.pbtxt` is for GPUs (TensorRT), `configs/cpu.pbtxt` for CPUs (ONNX Runtime), as in
`tritonserver --model-config-name=cpu`. The reasons for the settings are in `build/README.md`.
"""

import json
from typing import Any

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from aigid.contract import ModelContract
from aigid.errors import ContractError
from aigid.export.engine_profiles import MAX_BATCH_ROWS, Profile, engine_profiles
from aigid.scorers import (
    PAIRS_MODEL,
    PARTS,
    TENSORS_MODEL,
    ModelSpec,
    model_specs,
)

PYTHON_MODELS = (TENSORS_MODEL, PAIRS_MODEL)
GPU_GRAPH, GPU_PRECISION = "model.plan", "fp16"

# How long a request may wait to be merged with others. A batch takes 20 ms or more.
MERGE_DELAY_US = 2000

# Rows that one thread of our own backend takes at a time. As in the embedded scorer, their
# activations then stay in a core's cache.
CPU_SLICE_ROWS = {"bert": 16, "clip_vision": 8, "fusion_heads": 64}

# With two instances of the image encoder, one batch is copied to the GPU (150 KB an image) while
# the other is computed.
GPU_INSTANCES = {"bert": 1, "clip_vision": 2, "fusion_heads": 1}

# With two instances of the models that clients ask, one batch is decoded, or its answers are sent,
# while the other is computed.
PYTHON_INSTANCES = 2

# Overload is refused instead of piled up. A request that waits so long is not answered within the
# two minutes that a scan gives it.
MAX_QUEUED_REQUESTS, MAX_QUEUED_US = 256, 60_000_000

_GRAPH_TYPES: dict[int, str] = {
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
}


def model_configs(contract: ModelContract) -> dict[str, str]:
    """Return the text of every configuration, by its path in the repository."""
    specs = model_specs(contract)
    configs = {}
    for part in PARTS:
        configs[f"{part}/config.pbtxt"] = _gpu_config(contract, part, specs[part])
        configs[f"{part}/configs/cpu.pbtxt"] = _cpu_config(contract, part, specs[part])
    for name in PYTHON_MODELS:
        configs[f"{name}/config.pbtxt"] = _python_config(contract, name, specs[name])
    return {path: text_format.MessageToString(config) for path, config in configs.items()}


def check_graph(graph: onnx.GraphProto, part: str, contract: ModelContract) -> None:
    """Raise ContractError if a graph's tensors differ from those of the contract and configs."""
    spec = model_specs(contract)[part]
    for what, declared, found in (
        ("inputs", spec.inputs, graph.input),
        ("outputs", spec.outputs, graph.output),
    ):
        wanted = {tensor.name: (tensor.data_type, tensor.dims) for tensor in declared}
        got = {item.name: _graph_tensor(item) for item in found}
        if got != wanted:
            raise ContractError(
                f"the graph of {part} has the {what} {got}, but the contract asks for {wanted}: "
                "export the checkpoint again"
            )


def _graph_tensor(item: onnx.ValueInfoProto) -> tuple[str, tuple[int, ...]]:
    kind = item.type.tensor_type
    dims = tuple(dim.dim_value or -1 for dim in kind.shape.dim)[1:]
    return _GRAPH_TYPES.get(kind.elem_type, f"ONNX type {kind.elem_type}"), dims


def _gpu_config(contract: ModelContract, part: str, spec: ModelSpec) -> Any:
    config = _described(contract, part, spec)
    config.platform, config.default_model_filename = "tensorrt_plan", GPU_GRAPH
    config.parameters["precision"].string_value = GPU_PRECISION
    profiles = engine_profiles(contract, part)
    group = config.instance_group.add(
        count=GPU_INSTANCES[part], kind=triton.ModelInstanceGroup.KIND_GPU
    )
    # By default Triton uses the first profile only: one row at a time.
    group.profile.extend(str(number) for number in range(len(profiles)))
    _merge_requests(config)
    for profile in profiles:
        _warm_up(config, profile)
    return config


def _cpu_config(contract: ModelContract, part: str, spec: ModelSpec) -> Any:
    config = _described(contract, part, spec)
    config.backend, config.default_model_filename = (
        "onnxruntime",
        f"model.{contract.cpu_precision}.onnx",
    )
    config.parameters["precision"].string_value = contract.cpu_precision
    config.parameters["slice_rows"].string_value = str(CPU_SLICE_ROWS[part])
    if part == "fusion_heads":
        # Wrong tokens give features of NaN: see token_guard.py.
        config.parameters["nan_input_error"].string_value = (
            f"input_ids must be ids of the vocabulary, at most {contract.prompt.max_tokens} a row, "
            "and attention_mask must have the same length"
        )
    config.instance_group.add(count=1, kind=triton.ModelInstanceGroup.KIND_CPU)
    _merge_requests(config)
    _warm_up(config, engine_profiles(contract, part)[0])
    return config


def _described(contract: ModelContract, name: str, spec: ModelSpec) -> Any:
    config = triton.ModelConfig(name=name, max_batch_size=MAX_BATCH_ROWS)
    # Clients check that they prepare their pairs for the model that is served.
    config.parameters["fingerprint"].string_value = contract.fingerprint
    for tensor in spec.inputs:
        config.input.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    for tensor in spec.outputs:
        config.output.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return config


def _merge_requests(config: Any) -> None:
    batching = config.dynamic_batching
    if config.name != "fusion_heads":
        # The requests of the heads come merged from the models that clients ask.
        batching.max_queue_delay_microseconds = MERGE_DELAY_US
    policy = batching.default_queue_policy
    policy.timeout_action = triton.ModelQueuePolicy.REJECT
    policy.max_queue_size = MAX_QUEUED_REQUESTS
    policy.default_timeout_microseconds = MAX_QUEUED_US


def _warm_up(config: Any, profile: Profile) -> None:
    """Add a batch of zeros of the profile's optimum shape, run before the model is ready."""
    request = config.model_warmup.add(name=profile.name)
    for tensor in config.input:
        _, (request.batch_size, *dims), _ = profile.shapes[tensor.name]
        value = request.inputs[tensor.name]
        value.data_type, value.zero_data = tensor.data_type, True
        value.dims.extend(dims)


def _python_config(contract: ModelContract, name: str, spec: ModelSpec) -> Any:
    """Return the configuration of a model that asks the graphs.

    It is on the CPU, wherever the graphs run.
    """
    config = _described(contract, name, spec)
    config.backend = "python"
    config.instance_group.add(count=PYTHON_INSTANCES, kind=triton.ModelInstanceGroup.KIND_CPU)
    # What a client needs to name the source of an image.
    config.parameters["labels"].string_value = json.dumps(contract.labels)
    if contract.open_set is not None:
        config.parameters["open_set_threshold"].string_value = str(contract.open_set.threshold)
    for tensor in config.input:
        # Requests with prompts of different buckets are merged too.
        tensor.allow_ragged_batch = -1 in tensor.dims
    _merge_requests(config)
    return config
