"""What a Triton server says of its model, held against the contract that a client prepares its pairs by."""

from collections.abc import Iterable
from typing import Any

from tritonclient.grpc import model_config_pb2

from aigid.contract import ModelContract
from aigid.errors import ContractError
from aigid.scorers.tensors import ENSEMBLE, TensorSpec, model_specs


async def served_precision(client: Any, contract: ModelContract, batch_rows: int) -> str:
    """The precision that the encoders of a server compute in, after all else was found to be as the contract has it.

    `client` is one of tritonclient.grpc.aio. Raises ContractError where the server's model is another, and tritonclient's
    own error where the server does not answer.
    """
    index = await client.get_model_repository_index()
    names = sorted({model.name for model in index.models})
    if ENSEMBLE not in names:
        found = ", ".join(names) or "none at all"
        raise ContractError(
            f"it has no model {ENSEMBLE}, but {found}: serve a model repository that build/ made"
        )
    config = (await client.get_model_config(ENSEMBLE)).config
    _check_fingerprint(config, contract)
    for declared, wanted in ((config.input, "inputs"), (config.output, "outputs")):
        _check_tensors(declared, getattr(model_specs(contract)[ENSEMBLE], wanted), wanted)
    if config.max_batch_size < batch_rows:
        raise ContractError(
            f"it takes {config.max_batch_size} pairs at a time, not {batch_rows}: give a smaller --batch-size"
        )
    part = (await client.get_model_config("clip_vision")).config
    return str(part.parameters["precision"].string_value)


def _check_fingerprint(config: Any, contract: ModelContract) -> None:
    fingerprint = config.parameters["fingerprint"].string_value
    if not fingerprint:
        raise ContractError(
            "its configuration does not say which model it serves: build the model repository anew"
        )
    if fingerprint != contract.fingerprint:
        raise ContractError(
            f"it serves model {fingerprint[:16]}..., but the scan is to use {contract.name}, {contract.fingerprint[:16]}...: "
            "name the repository that it serves with --model, or another server"
        )


def _check_tensors(declared: Iterable[Any], wanted: tuple[TensorSpec, ...], what: str) -> None:
    names = model_config_pb2.DataType.Name
    found = {
        TensorSpec(tensor.name, names(tensor.data_type), tuple(tensor.dims)) for tensor in declared
    }
    if found != set(wanted):
        text = ", ".join(
            f"{tensor.name} {tensor.data_type} {list(tensor.dims)}"
            for tensor in sorted(found, key=str)
        )
        raise ContractError(
            f"the {what} of its model {ENSEMBLE} are {text}, not the contract's: build its repository anew"
        )
