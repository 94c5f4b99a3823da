"""Triton's backend `onnxruntime` in Python, for servers that lack the native one: any ONNX model, by its configuration.

A folder `<backend-directory>/onnxruntime/` whose `model.py` imports this serves every model with `backend: "onnxruntime"`.
"""

import json
from collections.abc import Mapping, Sequence
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


class TritonPythonModel:
    """The class that the backend looks for: one ONNX Runtime session for each instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph that the configuration names."""
        config = json.loads(args["model_config"])
        self._inputs = [item["name"] for item in config["input"]]
        self._outputs = [item["name"] for item in config["output"]]
        folder = Path(args["model_repository"], args["model_version"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = thread_count(config)
        graph = folder / (config.get("default_model_filename") or "model.onnx")
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request; requests of one shape are computed together."""
        feeds = [self._feed(request) for request in requests]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, feed in enumerate(feeds):
            groups.setdefault(tuple(value.shape[1:] for value in feed.values()), []).append(number)
        responses: dict[int, Any] = {}
        for numbers in groups.values():
            responses |= self._respond({number: feeds[number] for number in numbers})
        return [responses[number] for number in range(len(requests))]

    def _feed(self, request: Any) -> Feed:
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}

    def _respond(self, feeds: Mapping[int, Feed]) -> dict[int, Any]:
        """Responses by the requests' numbers; where the graph refuses a batch, each request is tried alone."""
        try:
            joined = {name: np.concatenate([feed[name] for feed in feeds.values()]) for name in self._inputs}
            answers = self._session.run(self._outputs, joined)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's own share no other base
            if len(feeds) > 1:
                return {one: self._respond({one: feeds[one]})[one] for one in feeds}
            reason = " ".join(str(error).split())[:300]
            return dict.fromkeys(feeds, pb_utils.InferenceResponse([], pb_utils.TritonError(reason)))
        responses, start = {}, 0
        for number, feed in feeds.items():
            end = start + len(feed[self._inputs[0]])
            tensors = [pb_utils.Tensor(name, answer[start:end]) for name, answer in zip(self._outputs, answers, strict=True)]
            responses[number], start = pb_utils.InferenceResponse(tensors), end
        return responses


def thread_count(config: Mapping[str, Any]) -> int:
    """The threads of one instance: what the configuration's parameter says, else its share of the cores."""
    said = config.get("parameters", {}).get(_THREADS, {}).get("string_value")
    instances = sum(group.get("count", 1) for group in config.get("instance_group", [])) or 1
    return int(said) if said else max(1, available_cores() // instances)
