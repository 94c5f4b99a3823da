"""Triton's model `preprocess`, for its Python backend: `preprocess/N/model.py` of a model repository imports it from here."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils  # it is there inside Triton's Python backend alone

from aigid.cores import available_cores
from aigid.serving.pair_preprocessor import PairPreprocessor, PreparedPairs


class TritonPythonModel:
    """The class that the backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the contract and the tokenizer of the repository that this model is in."""
        self._preprocessor = PairPreprocessor(Path(args["model_repository"]).parent)
        # Many clients that send a pair each must keep all cores as busy as one who sends many.
        self._pool = ThreadPoolExecutor(available_cores(), "request")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request, and where that cannot be, its own error."""
        pairs = [
            [_strings(request, name) for name in ("image_bytes", "prompt")] for request in requests
        ]
        prepared = [self._pool.submit(self._preprocessor.prepare, *columns) for columns in pairs]
        return [_response(future) for future in prepared]

    def finalize(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _response(prepared: "Future[PreparedPairs]") -> Any:
    try:
        pairs = prepared.result()
    except Exception as error:  # noqa: BLE001 - whatever it is, the requests beside it have answers
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return pb_utils.InferenceResponse(
            [], pb_utils.TritonError(f"the pairs cannot be prepared: {reason}")
        )
    tensors = {
        "image": pairs.image,
        "input_ids": pairs.tokens.input_ids,
        "attention_mask": pairs.tokens.attention_mask,
        "error": np.array([[error.encode()] for error in pairs.errors], dtype=object),
    }
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, value) for name, value in tensors.items()]
    )


def _strings(request: Any, name: str) -> list[bytes]:
    value: npt.NDArray[np.object_] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return [bytes(item) for item in value.reshape(-1)]
