"""Triton's backend `onnxruntime` in Python, for servers without the native one.

A file `<backend-directory>/onnxruntime/model.py` that imports this serves every model whose
configuration has `backend: "onnxruntime"`.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # exists only inside Triton's Python backend

from aigid.cores import available_cores

Array = npt.NDArray[Any]
Feed = dict[str, Array]

# The native backend's name for the threads of an instance.
_THREADS = "intra_op_thread_count"
# Parameters that the native backend ignores: the rows that a thread computes at a time, and the
# error for a request with NaN among its inputs, which is refused.
_SLICE_ROWS, _NAN_ERROR = "slice_rows", "nan_input_error"


class TritonPythonModel:
    """The class that Triton's Python backend looks for: an ONNX Runtime session for each instance.

    Each thread computes a slice of a batch on one core. No thread waits for others inside the
    graph, and the activations of a slice stay in its core's cache.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph that the configuration names."""
        config = json.loads(args["model_config"])
        self._inputs = [item["name"] for item in config["input"]]
        self._outputs = [item["name"] for item in config["output"]]
        batched, threads = config.get("max_batch_size", 0) > 0, thread_count(config)
        options = ort.SessionOptions()
        # Without a batch dimension there is nothing to slice: the graph itself gets the threads.
        options.intra_op_num_threads = 1 if batched else threads
        folder = Path(args["model_repository"], args["model_version"])
        graph = folder / (config.get("default_model_filename") or "model.onnx")
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._slice_rows = slice_rows(config) if batched else None
        self._nan_error = parameter(config, _NAN_ERROR)
        self._pool = ThreadPoolExecutor(threads, "onnxruntime")

    def execute(
        self, requests: "Sequence[pb_utils.InferenceRequest]"
    ) -> "list[pb_utils.InferenceResponse]":
        """Return one response for each request; requests of equal shapes are computed together."""
        feeds = [self._feed(request) for request in requests]
        groups: dict[object, list[int]] = {}
        responses: dict[int, pb_utils.InferenceResponse] = {}
        for number, feed in enumerate(feeds):
            if self._nan_error and any(np.isnan(value).any() for value in feed.values()):
                responses[number] = _error(self._nan_error, pb_utils.TritonError.INVALID_ARG)
                continue
            shapes = tuple(value.shape[1:] for value in feed.values())
            groups.setdefault(shapes if self._slice_rows else number, []).append(number)
        for numbers in groups.values():
            responses |= self._respond({number: feeds[number] for number in numbers})
        return [responses[number] for number in range(len(requests))]

    def finalize(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def _feed(self, request: "pb_utils.InferenceRequest") -> Feed:
        return {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._inputs
        }

    def _respond(self, feeds: Mapping[int, Feed]) -> "dict[int, pb_utils.InferenceResponse]":
        """Return responses by the requests' numbers.

        If the graph refuses a batch, each of its requests is computed alone.
        """
        try:
            answers = self._compute(list(feeds.values()))
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no other base
            if len(feeds) > 1:
                return {one: self._respond({one: feeds[one]})[one] for one in feeds}
            reason = " ".join(str(error).split())[:300]
            return dict.fromkeys(feeds, _error(reason, pb_utils.TritonError.INTERNAL))
        if len(feeds) == 1:
            return dict.fromkeys(feeds, self._response(answers))
        responses, start = {}, 0
        for number, feed in feeds.items():
            end = start + len(feed[self._inputs[0]])
            responses[number] = self._response([answer[start:end] for answer in answers])
            start = end
        return responses

    def _compute(self, feeds: Sequence[Feed]) -> list[Array]:
        """Return the graph's outputs for the rows of all feeds, one feed after the other."""
        joined = (
            {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
            if feeds[1:]
            else feeds[0]
        )
        if not self._slice_rows:
            return list(self._session.run(self._outputs, joined))
        rows, size = len(joined[self._inputs[0]]), self._slice_rows
        slices = [
            {name: value[start : start + size] for name, value in joined.items()}
            for start in range(0, rows, size)
        ]
        sliced = list(self._pool.map(lambda feed: self._session.run(self._outputs, feed), slices))
        return [np.concatenate(outputs) for outputs in zip(*sliced, strict=True)]

    def _response(self, answers: Sequence[Array]) -> "pb_utils.InferenceResponse":
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(*named) for named in zip(self._outputs, answers, strict=True)]
        )


def thread_count(config: Mapping[str, Any]) -> int:
    """Return the threads of an instance: the configuration's parameter, or a share of the cores."""
    instances = sum(group.get("count", 1) for group in config.get("instance_group", [])) or 1
    return int(parameter(config, _THREADS) or max(1, available_cores() // instances))


def slice_rows(config: Mapping[str, Any]) -> int:
    """Return the rows that a thread computes at a time: the configuration's parameter, or 8."""
    return int(parameter(config, _SLICE_ROWS) or 8)


def parameter(config: Mapping[str, Any], name: str) -> str:
    """Return a parameter of the configuration; empty if it is not set."""
    return str(config.get("parameters", {}).get(name, {}).get("string_value", ""))


def _error(reason: str, code: object) -> "pb_utils.InferenceResponse":
    return pb_utils.InferenceResponse([], pb_utils.TritonError(reason, code))
