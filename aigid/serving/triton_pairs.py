"""Triton's model `aigid_pairs`, for `aigid_pairs/N/model.py` of a model repository to import."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils  # exists only inside Triton's Python backend

from aigid.contract import load_contract
from aigid.cores import available_cores
from aigid.prompts import pad_to_bucket
from aigid.serving.pair_preprocessor import PairPreprocessor, PreparedPair
from aigid.serving.triton_parts import SCORES, Failure, Parts, Tensors, gave_up


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the contract and the tokenizer of the repository that contains this model."""
        repository = Path(args["model_repository"]).parent
        contract = load_contract(repository)
        self._parts = Parts(contract.prompt.max_tokens)
        self._preprocessor = PairPreprocessor(repository)
        self._widths = dict(zip(SCORES, (1, 1, len(contract.labels)), strict=True))
        # Many clients with one pair each must keep all cores busy, as one client with many does.
        self._pool = ThreadPoolExecutor(available_cores(), "request")

    def execute(
        self, requests: "Sequence[pb_utils.InferenceRequest]"
    ) -> "list[pb_utils.InferenceResponse]":
        """Return one response for each request; a request that fails gets an error of its own."""
        prepared = list(self._pool.map(self._prepare, requests))
        pairs = [pair for one in prepared if isinstance(one, list) for pair in one]
        scores, failures = self._score(pairs)
        responses, end = [], 0
        for one in prepared:
            if not isinstance(one, list):
                responses.append(one)
                continue
            start, end = end, end + len(one)
            failed = [failures[row] for row in range(start, end) if row in failures]
            if failed:
                responses.append(failed[0].response())
            else:
                own = {name: column[start:end] for name, column in scores.items()}
                responses.append(_response(own, one))
        return responses

    def finalize(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()
        self._parts.close()

    def _prepare(
        self, request: "pb_utils.InferenceRequest"
    ) -> "list[PreparedPair] | pb_utils.InferenceResponse":
        """Return the prepared pairs of a request, or the response where there are none."""
        if request.is_cancelled():
            return gave_up()
        columns = [_strings(request, name) for name in ("image_bytes", "prompt")]
        try:
            return self._preprocessor.prepare(*columns, evidence=_asks_for_evidence(request))
        except Exception as error:  # noqa: BLE001 - other requests of the batch still get answers
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return pb_utils.InferenceResponse(
                [], pb_utils.TritonError(f"the pairs cannot be prepared: {reason}")
            )

    def _score(self, pairs: Sequence[PreparedPair]) -> tuple[Tensors, dict[int, Failure]]:
        """Return the scores of all pairs, NaN for those with an error, and failures by row.

        Pairs of one bucket are scored together, whatever requests they are of.
        """
        scores = {
            name: np.full((len(pairs), width), np.nan, np.float32)
            for name, width in self._widths.items()
        }
        failures: dict[int, Failure] = {}
        groups = _by_bucket(pairs)
        items = [_tensors([pairs[row] for row in rows]) for rows in groups]
        for rows, answer in zip(groups, self._parts.score(items), strict=True):
            if isinstance(answer, Failure):
                failures.update(dict.fromkeys(rows, answer))
                continue
            for name, column in scores.items():
                column[rows] = answer[name]
        return scores, failures


def _by_bucket(pairs: Sequence[PreparedPair]) -> list[list[int]]:
    """Return the rows of the pairs without an error, by the bucket of their tokens."""
    buckets: dict[int, list[int]] = {}
    for row, pair in enumerate(pairs):
        if not pair.error:
            buckets.setdefault(pair.bucket, []).append(row)
    return list(buckets.values())


def _tensors(pairs: Sequence[PreparedPair]) -> Tensors:
    tokens = pad_to_bucket([pair.token_ids for pair in pairs], pairs[0].bucket)
    return {
        "image": np.stack([pair.pixels for pair in pairs if pair.pixels is not None]),
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
    }


def _response(scores: Tensors, pairs: Sequence[PreparedPair]) -> "pb_utils.InferenceResponse":
    texts = {
        "error": _column([pair.error for pair in pairs]),
        "evidence": _column([pair.evidence for pair in pairs]),
    }
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, value) for name, value in {**scores, **texts}.items()]
    )


def _column(texts: Sequence[str]) -> npt.NDArray[np.object_]:
    return np.array([[text.encode()] for text in texts], dtype=object)


def _asks_for_evidence(request: "pb_utils.InferenceRequest") -> bool:
    """Tell whether the request has the parameter `evidence`."""
    return json.loads(request.parameters() or "{}").get("evidence") is True


def _strings(request: "pb_utils.InferenceRequest", name: str) -> list[bytes]:
    value: npt.NDArray[np.object_] = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return [bytes(item) for item in value.reshape(-1)]
