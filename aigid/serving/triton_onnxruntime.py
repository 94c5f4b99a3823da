"""Triton's backend `onnxruntime` in Python, for servers that lack the native one: any ONNX model, by its configuration.

A folder `<backend-directory>/onnxruntime/` whose `model.py` imports this serves every model with `backend: "onnxruntime"`.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # it is there inside Triton's Python backend alone

from aigid.cores import available_cores

Feed = dict[str, npt.NDArray[Any]]

# The native backend's name for it.
_THREADS = "intra_op_thread_count"
# Ours, which it ignores: rows that a thread takes at a time; and why a request that has NaN among its inputs is refused.
_SLICE_ROWS, _NAN_ERROR = "slice_rows", "nan_input_error"


class TritonPythonModel:
    """The class that the backend looks for: one ONNX Runtime session for each instance.

    Its threads each compute a slice of a batch, on one core: no thread waits for others inside the graph, and what a
    slice needs stays in that core's cache.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph that the configuration names."""
        config = json.loads(args["model_config"])
        self._inputs = [item["name"] for item in config["input"]]
        self._outputs = [item["name"] for item in config["output"]]
        folder = Path(args["model_repository"], args["model_version"])
        options = ort.SessionOptions()
        batched, threads = config.get("max_batch_size", 0) > 0, thread_count(config)
        # Where the first dimension is no batch, there is nothing to slice, and the graph itself has the threads.
        options.intra_op_num_threads = 1 if batched else threads
        graph = folder / (config.get("default_model_filename") or "model.onnx")
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._slice_rows = slice_rows(config) if batched else None
        self._nan_error = parameter(config, _NAN_ERROR)
        self._pool = ThreadPoolExecutor(threads, "onnxruntime")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request; requests of one shape are computed together."""
        feeds = [self._feed(request) for request in requests]
        groups: dict[Any, list[int]] = {}
        responses: dict[int, Any] = {}
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
        """End the threads."""
        self._pool.shutdown()

    def _feed(self, request: Any) -> Feed:
        return {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._inputs
        }

    def _respond(self, feeds: Mapping[int, Feed]) -> dict[int, Any]:
        """Responses by the requests' numbers; where the graph refuses a batch, each request is tried alone."""
        try:
            answers = self._compute(list(feeds.values()))
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's own share no other base
            if len(feeds) > 1:
                return {one: self._respond({one: feeds[one]})[one] for one in feeds}
            reason = " ".join(str(error).split())[:300]
            return dict.fromkeys(feeds, _error(reason, pb_utils.TritonError.INTERNAL))
        if len(feeds) == 1:
            return dict.fromkeys(feeds, self._response(answers))
        responses, start = {}, 0
        for number, feed in feeds.items():
            end = start + len(feed[self._inputs[0]])
            responses[number], start = (
                self._response([answer[start:end] for answer in answers]),
                end,
            )
        return responses

    def _compute(self, feeds: Sequence[Feed]) -> list[npt.NDArray[Any]]:
        """The graph's outputs for the rows of all feeds, one after the other."""
        joined = (
            {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
            if feeds[1:]
            else feeds[0]
        )
        if not self._slice_rows:
            return list(self._session.run(self._outputs, joined))
        rows, size = len(joined[self._inputs[0]]), self._slice_rows
        parts = [
            {name: value[start : start + size] for name, value in joined.items()}
            for start in range(0, rows, size)
        ]
        sliced = list(self._pool.map(lambda part: self._session.run(self._outputs, part), parts))
        return [np.concatenate(outputs) for outputs in zip(*sliced, strict=True)]

    def _response(self, answers: Sequence[npt.NDArray[Any]]) -> Any:
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(*named) for named in zip(self._outputs, answers, strict=True)]
        )


def thread_count(config: Mapping[str, Any]) -> int:
    """The threads of one instance: what the configuration's parameter says, else its share of the cores."""
    instances = sum(group.get("count", 1) for group in config.get("instance_group", [])) or 1
    return int(parameter(config, _THREADS) or max(1, available_cores() // instances))


def slice_rows(config: Mapping[str, Any]) -> int:
    """How many rows a thread takes at a time: what the configuration's parameter says, else 8."""
    return int(parameter(config, _SLICE_ROWS) or 8)


def parameter(config: Mapping[str, Any], name: str) -> str:
    """A parameter of the configuration; empty where there is none."""
    return str(config.get("parameters", {}).get(name, {}).get("string_value", ""))


def _error(reason: str, code: Any) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(reason, code))
