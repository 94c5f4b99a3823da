"""A stand-in for the module that exists only inside a server's Python backend."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import onnxruntime as ort
import pytest


@dataclass(frozen=True)
class Tensor:
    name: str
    value: Any

    def as_numpy(self) -> Any:
        return self.value


class Error:
    """As in Triton, an error is of one response: its memory goes with it."""

    INTERNAL, INVALID_ARG, CANCELLED = "internal", "invalid argument", "cancelled"

    def __init__(self, message: str, code: str = INTERNAL) -> None:
        self._message, self._code, self.used = message, code, False

    def message(self) -> str:
        return self._message

    def code(self) -> str:
        return self._code


@dataclass(frozen=True)
class Response:
    tensors: list[Tensor]
    refusal: Error | None = None

    def __post_init__(self) -> None:
        if self.refusal:
            assert not self.refusal.used, "two responses share an error"
            self.refusal.used = True

    def has_error(self) -> bool:
        return self.refusal is not None

    def error(self) -> Error | None:
        return self.refusal


class Request(dict[str, Any]):
    """A request: its arrays by name, and its parameters as JSON."""

    def __init__(self, arrays: dict[str, Any], parameters: str = "") -> None:
        super().__init__(arrays)
        self._parameters = parameters
        self.gave_up = False

    def is_cancelled(self) -> bool:
        return self.gave_up

    def parameters(self) -> str:
        return self._parameters


@dataclass(frozen=True)
class InnerRequest:
    """A request that a model makes: the graph of the tiny repository answers it."""

    repository: ClassVar[Path]
    refused: ClassVar[dict[str, str]]
    asked: ClassVar[list[tuple[str, int]]]

    model_name: str
    requested_output_names: list[str]
    inputs: list[Tensor]
    preferred_memory: Any

    def exec(self) -> Response:
        self.asked.append((self.model_name, len(self.inputs[0].value)))
        if self.model_name in self.refused:
            return Response([], Error(self.refused[self.model_name], "unavailable"))
        (graph,) = self.repository.glob(f"{self.model_name}/*/model.int8.onnx")
        session = ort.InferenceSession(graph)
        found = session.run(
            self.requested_output_names, {one.name: one.value for one in self.inputs}
        )
        named = zip(self.requested_output_names, found, strict=True)
        return Response([Tensor(*one) for one in named])


@pytest.fixture
def graphs(tiny_repository: Path) -> type[InnerRequest]:
    """The graphs that answer inner requests; `refused` has the errors of some."""
    InnerRequest.repository, InnerRequest.refused, InnerRequest.asked = tiny_repository, {}, []
    return InnerRequest


@pytest.fixture
def request_of() -> type[Request]:
    return Request


@pytest.fixture
def python_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are mappings of arrays. Modules that use the backend are imported again."""
    stand_in = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=Error,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request[name]),
        get_output_tensor_by_name=lambda response, name: next(
            tensor for tensor in response.tensors if tensor.name == name
        ),
        InferenceRequest=InnerRequest,
        PreferredMemory=lambda kind: kind,
        TRITONSERVER_MEMORY_CPU=0,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    for name in ("triton_parts", "triton_tensors", "triton_pairs", "triton_onnxruntime"):
        monkeypatch.delitem(sys.modules, f"aigid.serving.{name}", raising=False)
