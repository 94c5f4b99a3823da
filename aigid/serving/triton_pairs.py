"""Triton's model `aigid_pairs`, for `aigid_pairs/N/model.py` of a model repository to import.

It prepares pairs and asks the model `aigid` for their scores. As an ensemble of both it would end
the whole server (Triton 2.51) when clients give up on their requests.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils  # exists only inside Triton's Python backend

from aigid.cores import available_cores
from aigid.prompts import pad_to_bucket
from aigid.scorers.tensors import ENSEMBLE
from aigid.serving.pair_preprocessor import PairPreprocessor, PreparedPair

# The columns of a batch's scores, beside each other in this order.
_SCORES = ("p_ai", "known_score", "p_source")


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the contract and the tokenizer of the repository that contains this model."""
        self._preprocessor = PairPreprocessor(Path(args["model_repository"]).parent)
        outputs = {one["name"]: one for one in json.loads(args["model_config"])["output"]}
        self._widths = [int(outputs[name]["dims"][0]) for name in _SCORES]
        self._cpu = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)
        # Many clients with one pair each must keep all cores busy, as one client with many does.
        self._pool = ThreadPoolExecutor(available_cores(), "request")

    def execute(
        self, requests: "Sequence[pb_utils.InferenceRequest]"
    ) -> "list[pb_utils.InferenceResponse]":
        """Return one response for each request; a request that fails gets an error of its own.

        Pairs of all requests are scored together where their tokens share a bucket.
        """
        prepared = list(self._pool.map(self._prepare, requests))
        pairs = [pair for one in prepared if isinstance(one, list) for pair in one]
        scores = np.full((len(pairs), sum(self._widths)), np.nan, np.float32)
        failures: dict[int, pb_utils.TritonError] = {}
        list(self._pool.map(lambda rows: self._score(pairs, rows, scores, failures), _groups(pairs)))
        responses, start = [], 0
        for one in prepared:
            if not isinstance(one, list):
                responses.append(pb_utils.InferenceResponse([], one))
                continue
            end = start + len(one)
            failed = [failures[row] for row in range(start, end) if row in failures]
            responses.append(
                pb_utils.InferenceResponse([], failed[0])
                if failed
                else self._response(one, scores[start:end])
            )
            start = end
        return responses

    def finalize(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def _prepare(
        self, request: "pb_utils.InferenceRequest"
    ) -> "list[PreparedPair] | pb_utils.TritonError":
        if request.is_cancelled():
            return pb_utils.TritonError("the client gave up", pb_utils.TritonError.CANCELLED)
        columns = [_strings(request, name) for name in ("image_bytes", "prompt")]
        try:
            return self._preprocessor.prepare(*columns, evidence=_asks_for_evidence(request))
        except Exception as error:  # noqa: BLE001 - other requests of the batch still get answers
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return pb_utils.TritonError(f"the pairs cannot be prepared: {reason}")

    def _score(
        self,
        pairs: Sequence[PreparedPair],
        rows: Sequence[int],
        scores: npt.NDArray[np.float32],
        failures: "dict[int, pb_utils.TritonError]",
    ) -> None:
        """Fill the scores of some rows, or their failures."""
        tokens = pad_to_bucket([pairs[row].token_ids for row in rows], pairs[rows[0]].bucket)
        tensors = {
            "image": np.stack([pairs[row].pixels for row in rows]),
            "input_ids": tokens.input_ids,
            "attention_mask": tokens.attention_mask,
        }
        answer = pb_utils.InferenceRequest(
            model_name=ENSEMBLE,
            requested_output_names=list(_SCORES),
            inputs=[pb_utils.Tensor(name, value) for name, value in tensors.items()],
            preferred_memory=self._cpu,
        ).exec()
        if answer.has_error():
            failures.update(dict.fromkeys(rows, answer.error()))
            return
        outputs = [pb_utils.get_output_tensor_by_name(answer, name).as_numpy() for name in _SCORES]
        scores[rows] = np.concatenate(outputs, axis=1)

    def _response(
        self, pairs: Sequence[PreparedPair], scores: npt.NDArray[np.float32]
    ) -> "pb_utils.InferenceResponse":
        columns = np.split(scores, np.cumsum(self._widths)[:-1], axis=1)
        tensors = dict(zip(_SCORES, map(np.ascontiguousarray, columns), strict=True))
        texts = {
            "error": [pair.error for pair in pairs],
            "evidence": [pair.evidence for pair in pairs],
        }
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, value) for name, value in tensors.items()]
            + [pb_utils.Tensor(name, _column(values)) for name, values in texts.items()]
        )


def _groups(pairs: Sequence[PreparedPair]) -> list[list[int]]:
    """Return the rows of pairs without an error, by the bucket of their tokens."""
    buckets: dict[int, list[int]] = {}
    for row, pair in enumerate(pairs):
        if not pair.error:
            buckets.setdefault(pair.bucket, []).append(row)
    return list(buckets.values())


def _column(texts: Sequence[str]) -> npt.NDArray[np.object_]:
    return np.array([[text.encode()] for text in texts], dtype=object)


def _asks_for_evidence(request: "pb_utils.InferenceRequest") -> bool:
    """Tell whether the request has the parameter `evidence`."""
    return json.loads(request.parameters() or "{}").get("evidence") is True


def _strings(request: "pb_utils.InferenceRequest", name: str) -> list[bytes]:
    value: npt.NDArray[np.object_] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return [bytes(item) for item in value.reshape(-1)]
