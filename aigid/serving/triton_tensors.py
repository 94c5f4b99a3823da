"""Triton's model `aigid`, for `aigid/N/model.py` of a model repository to import."""

from collections.abc import Sequence
from pathlib import Path

import triton_python_backend_utils as pb_utils  # exists only inside Triton's Python backend

from aigid.contract import load_contract
from aigid.serving.triton_parts import SCORES, Failure, Parts, Tensors, gave_up

_INPUTS = ("image", "input_ids", "attention_mask")


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the contract of the repository that contains this model."""
        contract = load_contract(Path(args["model_repository"]).parent)
        self._parts = Parts(contract.prompt.max_tokens)

    def execute(
        self, requests: "Sequence[pb_utils.InferenceRequest]"
    ) -> "list[pb_utils.InferenceResponse]":
        """Return one response for each request; a request that fails gets an error of its own."""
        waiting = [not request.is_cancelled() for request in requests]
        answers = iter(
            self._parts.score(
                [
                    _tensors(request)
                    for request, waits in zip(requests, waiting, strict=True)
                    if waits
                ]
            )
        )
        return [_response(next(answers)) if waits else gave_up() for waits in waiting]

    def finalize(self) -> None:
        """Stop the threads."""
        self._parts.close()


def _tensors(request: "pb_utils.InferenceRequest") -> Tensors:
    return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in _INPUTS}


def _response(answer: Tensors | Failure) -> "pb_utils.InferenceResponse":
    if isinstance(answer, Failure):
        return answer.response()
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, answer[name]) for name in SCORES])
