"""The glue between Triton's Python backend and aigid, with a stand-in for the module that only a server has."""

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import picture_bytes

from aigid.contract import load_contract


@dataclass(frozen=True)
class Tensor:
    name: str
    value: Any

    def as_numpy(self) -> Any:
        return self.value


@pytest.fixture
def model(tiny_repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the backend makes of the file in the repository."""
    backend = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=lambda tensors: {tensor.name: tensor.value for tensor in tensors},
        get_input_tensor_by_name=lambda request, name: Tensor(name, request[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.delitem(sys.modules, "aigid.serving.triton_preprocess", raising=False)
    version = load_contract(tiny_repository).version
    names = runpy.run_path(str(tiny_repository / "preprocess" / str(version) / "model.py"))
    model = names["TritonPythonModel"]()
    model.initialize({"model_repository": str(tiny_repository / "preprocess")})
    return model


def test_each_request_has_a_response_of_its_own_rows(model: Any) -> None:
    def request(*images: bytes, prompt: bytes) -> dict[str, Any]:
        column = [[image] for image in images]
        return {"image_bytes": np.array(column, object), "prompt": np.array([[prompt]] * len(images), object)}

    first = request(picture_bytes(1), b"no image", prompt=b"a cat")
    second = request(picture_bytes(2), prompt=b"a cat on a mat " * 10)
    answers = model.execute([first, second])
    assert [len(answer["image"]) for answer in answers] == [2, 1]
    assert answers[0]["error"].tolist() == [[b""], [b"undecodable"]]
    assert answers[0]["input_ids"].shape[1] < answers[1]["input_ids"].shape[1]
    assert {name: value.dtype for name, value in answers[1].items()} == {
        "image": np.uint8,
        "input_ids": np.int32,
        "attention_mask": np.int32,
        "error": object,
    }
