"""A stand-in for the module that exists only inside a server's Python backend."""

import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest


@dataclass(frozen=True)
class Tensor:
    name: str
    value: Any

    def as_numpy(self) -> Any:
        return self.value


@dataclass(frozen=True)
class Error:
    INTERNAL, INVALID_ARG = "internal", "invalid argument"

    message: str
    code: str = INTERNAL


@dataclass(frozen=True)
class Response:
    tensors: list[Tensor]
    error: Error | None = None


class Request(dict[str, Any]):
    """A request: its arrays by name, and its parameters as JSON."""

    def __init__(self, arrays: dict[str, Any], parameters: str = "") -> None:
        super().__init__(arrays)
        self._parameters = parameters

    def parameters(self) -> str:
        return self._parameters


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
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    for name in ("triton_parts", "triton_tensors", "triton_pairs", "triton_onnxruntime"):
        monkeypatch.delitem(sys.modules, f"aigid.serving.{name}", raising=False)
