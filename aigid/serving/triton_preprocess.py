"""Triton's model `preprocess`, for `preprocess/N/model.py` of a model repository to import."""

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils  # exists only inside Triton's Python backend

from aigid.cores import available_cores
from aigid.serving.pair_preprocessor import PairPreprocessor, PreparedPairs


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the contract and the tokenizer of the repository that contains this model."""
        self._preprocessor = PairPreprocessor(Path(args["model_repository"]).parent)
        # Many clients with one pair each must keep all cores busy, as one client with many does.
        self._pool = ThreadPoolExecutor(available_cores(), "request")

    def execute(
        self, requests: "Sequence[pb_utils.InferenceRequest]"
    ) -> "list[pb_utils.InferenceResponse]":
        """Return one response for each request; a request that fails gets an error of its own."""
        pairs = [
            [_strings(request, name) for name in ("image_bytes", "prompt")] for request in requests
        ]
        prepared = [
            self._pool.submit(
                self._preprocessor.prepare, *columns, evidence=_asks_for_evidence(request)
            )
            for columns, request in zip(pairs, requests, strict=True)
        ]
        return [_response(future) for future in prepared]

    def finalize(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()


def _response(prepared: "Future[PreparedPairs]") -> "pb_utils.InferenceResponse":
    try:
        pairs = prepared.result()
    except Exception as error:  # noqa: BLE001 - other requests of the batch still get answers
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return pb_utils.InferenceResponse(
            [], pb_utils.TritonError(f"the pairs cannot be prepared: {reason}")
        )
    tensors = {
        "image": pairs.image,
        "input_ids": pairs.tokens.input_ids,
        "attention_mask": pairs.tokens.attention_mask,
        "error": _column(pairs.errors),
        "evidence": _column(pairs.evidence),
    }
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, value) for name, value in tensors.items()]
    )


def _column(texts: Sequence[str]) -> npt.NDArray[np.object_]:
    return np.array([[text.encode()] for text in texts], dtype=object)


def _asks_for_evidence(request: "pb_utils.InferenceRequest") -> bool:
    """Tell whether the request has the parameter `evidence`, which an ensemble passes on.

    An ensemble asks for all outputs of this model, so that the outputs that a client names do not
    tell.
    """
    return json.loads(request.parameters() or "{}").get("evidence") is True


def _strings(request: "pb_utils.InferenceRequest", name: str) -> list[bytes]:
    value: npt.NDArray[np.object_] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return [bytes(item) for item in value.reshape(-1)]
