"""The model `preprocess`, with a stand-in for Triton's module."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.manifests import encoded_image

from aigid.contract import load_contract


@pytest.fixture
def model(tiny_repository: Path, python_backend: None) -> Any:
    """The model in the repository's file, as the backend loads it."""
    version = load_contract(tiny_repository).version
    names = runpy.run_path(str(tiny_repository / "preprocess" / str(version) / "model.py"))
    model = names["TritonPythonModel"]()
    model.initialize({"model_repository": str(tiny_repository / "preprocess")})
    return model


def test_each_request_has_a_response_of_its_own_rows(model: Any) -> None:
    def request(*images: bytes, prompt: bytes) -> dict[str, Any]:
        column = [[image] for image in images]
        return {
            "image_bytes": np.array(column, object),
            "prompt": np.array([[prompt]] * len(images), object),
        }

    first = request(encoded_image(1), b"no image", prompt=b"a cat")
    second = request(encoded_image(2), prompt=b"a cat on a mat " * 10)
    responses = model.execute([first, second])
    answers = [{tensor.name: tensor.value for tensor in response.tensors} for response in responses]
    assert [len(answer["image"]) for answer in answers] == [2, 1]
    assert answers[0]["error"].tolist() == [[b""], [b"undecodable"]]
    assert answers[0]["input_ids"].shape[1] < answers[1]["input_ids"].shape[1]
    assert {name: value.dtype for name, value in answers[1].items()} == {
        "image": np.uint8,
        "input_ids": np.int32,
        "attention_mask": np.int32,
        "error": object,
    }


def test_a_request_that_cannot_be_prepared_leaves_the_others(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(images: list[bytes], prompts: list[bytes]) -> Any:
        if images == [b"too much"]:
            raise MemoryError("no more")
        return real(images, prompts)

    real = model._preprocessor.prepare
    monkeypatch.setattr(model._preprocessor, "prepare", prepare)
    requests = [
        {"image_bytes": np.array([[image]], object), "prompt": np.array([[b"a cat"]], object)}
        for image in (b"too much", encoded_image(1))
    ]
    bad, good = model.execute(requests)
    assert (bad.tensors, bad.error.message) == (
        [],
        "the pairs cannot be prepared: MemoryError: no more",
    )
    assert good.error is None
    assert len(good.tensors) == 4
