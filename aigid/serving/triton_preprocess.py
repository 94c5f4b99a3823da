"""Triton's model `preprocess`, for its Python backend: `preprocess/N/model.py` of a model repository imports it from here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils  # it is there inside Triton's Python backend alone

from aigid.serving.pair_preprocessor import PairPreprocessor


class TritonPythonModel:
    """The class that the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the contract and the tokenizer of the repository that this model is in."""
        self._preprocessor = PairPreprocessor(Path(args["model_repository"]).parent)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        images, prompts = (_strings(request, name) for name in ("image_bytes", "prompt"))
        pairs = self._preprocessor.prepare(images, prompts)
        errors = np.array([[error.encode()] for error in pairs.errors], dtype=object)
        tensors = {
            "image": pairs.image,
            "input_ids": pairs.tokens.input_ids,
            "attention_mask": pairs.tokens.attention_mask,
            "error": errors,
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in tensors.items()])


def _strings(request: Any, name: str) -> list[bytes]:
    value: npt.NDArray[np.object_] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return [bytes(item) for item in value.reshape(-1)]
