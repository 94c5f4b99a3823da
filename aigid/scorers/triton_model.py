"""Check that the model of a Triton server is the one of the contract that pairs are prepared by."""

from collections.abc import Iterable

from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from aigid.contract import ModelContract
from aigid.errors import ContractError
from aigid.scorers.tensors import BUILD_COMMAND, TENSORS_MODEL, TensorSpec, model_specs
from aigid.scorers.triton_client import DeclaredModel, DeclaredTensor, TritonClient


async def served_precision(client: TritonClient, contract: ModelContract, batch_rows: int) -> str:
    """Check a server's model and return the precision that its encoders compute in.

    Raises ContractError if the model differs from the contract, and tritonclient's own
    InferenceServerException if the server does not answer.
    """
    config = await _config(client, TENSORS_MODEL)
    _check_fingerprint(config, contract)
    spec = model_specs(contract)[TENSORS_MODEL]
    _check_tensors(config.input, spec.inputs, "inputs")
    _check_tensors(config.output, spec.outputs, "outputs")
    if config.max_batch_size < batch_rows:
        raise ContractError(
            f"it takes at most {config.max_batch_size} pairs in a request, not {batch_rows}: "
            "lower `batch_rows`"
        )
    encoder = await _config(client, "clip_vision")
    return encoder.parameters["precision"].string_value


async def _config(client: TritonClient, model: str) -> DeclaredModel:
    try:
        return (await client.get_model_config(model)).config
    except InferenceServerException as error:
        if "unknown model" not in str(error.message()):
            raise
        raise ContractError(
            f"it has no model {model}: serve a model repository made by {BUILD_COMMAND}"
        ) from error


def _check_fingerprint(config: DeclaredModel, contract: ModelContract) -> None:
    fingerprint = config.parameters["fingerprint"].string_value
    if not fingerprint:
        raise ContractError(
            "its configuration does not name the model that it serves: build the repository again: "
            f"{BUILD_COMMAND}"
        )
    if fingerprint != contract.fingerprint:
        raise ContractError(
            f"it serves model {fingerprint[:16]}..., but the model asked for is {contract.name}, "
            f"{contract.fingerprint[:16]}...: set `model` to the repository that it serves, or "
            "name another server"
        )


def _check_tensors(
    declared: Iterable[DeclaredTensor], expected: tuple[TensorSpec, ...], kind: str
) -> None:
    type_name = model_config_pb2.DataType.Name
    found = {
        TensorSpec(tensor.name, type_name(tensor.data_type), tuple(tensor.dims))
        for tensor in declared
    }
    if found != set(expected):
        tensors = ", ".join(
            f"{tensor.name} {tensor.data_type} {list(tensor.dims)}"
            for tensor in sorted(found, key=str)
        )
        raise ContractError(
            f"the {kind} of its model {TENSORS_MODEL} are {tensors}, unlike the contract's: build "
            f"the repository again: {BUILD_COMMAND}"
        )
