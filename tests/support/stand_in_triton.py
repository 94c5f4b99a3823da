"""A gRPC server of Triton's protocol whose failures a test chooses, as with no real server."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from aigid.contract import ModelContract
from aigid.scorers import TENSORS_MODEL, ModelSpec, model_specs
from aigid.serving.ports import choose_ports

Failure = tuple[grpc.StatusCode, str]


class StandInServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with `p_ai` = the first byte of each image / 255.

    Request number N fails if `fail(N)` gives a status. Requests wait while `delay` is not set, and
    questions about a model's configuration while `config_delay` is not set.
    """

    def __init__(
        self, contract: ModelContract, fail: Callable[[int], Failure | None] = lambda call: None
    ) -> None:
        self.contract, self.fail = contract, fail
        self.precision, self.max_batch_size, self.live = "int8", 256, True
        self.names = [TENSORS_MODEL, "clip_vision"]
        self.specs = model_specs(contract)
        self.delay, self.config_delay = threading.Event(), threading.Event()
        self.delay.set()
        self.config_delay.set()
        self.calls = self.now = self.most_at_once = 0
        self._lock = threading.Lock()
        self._server: Any = None
        self.address = ""

    def __enter__(self) -> Self:
        # Without this option two servers could listen on one port.
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        if not self.address:
            port = choose_ports("127.0.0.1", {"grpc_port": 0})["grpc_port"]
            self.address = f"127.0.0.1:{port}"
        assert self._server.add_insecure_port(self.address), f"{self.address} is in use"
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all connections; the server can be entered again, at the same address."""
        self.delay.set()
        self.config_delay.set()
        self._server.stop(0).wait()

    def ServerLive(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the names of the protocol
        return service_pb2.ServerLiveResponse(live=self.live)

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=request.name in self.names)

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.config_delay.wait(60)
        if request.name not in self.names:
            reason = f"Request for unknown model: '{request.name}' is not found"
            context.abort(grpc.StatusCode.NOT_FOUND, reason)
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=self.max_batch_size)
        if self.contract.fingerprint:
            config.parameters["fingerprint"].string_value = self.contract.fingerprint
        config.parameters["precision"].string_value = self.precision
        spec: ModelSpec = self.specs[request.name]
        for given, tensors in ((config.input, spec.inputs), (config.output, spec.outputs)):
            for tensor in tensors:
                given.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        with self._lock:
            call, self.calls, self.now = self.calls, self.calls + 1, self.now + 1
            self.most_at_once = max(self.most_at_once, self.now)
        try:
            self.delay.wait(60)
            failure = self.fail(call)
            if failure:
                context.abort(*failure)
            return self._answer(request)
        finally:
            with self._lock:
                self.now -= 1

    def _answer(self, request: Any) -> Any:
        (row,) = [number for number, tensor in enumerate(request.inputs) if tensor.name == "image"]
        images = np.frombuffer(request.raw_input_contents[row], np.uint8).reshape(
            request.inputs[row].shape
        )
        p_ai = images[:, 0, 0, :1].astype(np.float32) / 255
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answers = {"p_ai": p_ai, "known_score": p_ai, "p_source": np.repeat(p_ai, 6, axis=1)}
        for name, value in answers.items():
            answer.outputs.add(name=name, datatype="FP32", shape=value.shape)
            answer.raw_output_contents.append(value.tobytes())
        return answer
