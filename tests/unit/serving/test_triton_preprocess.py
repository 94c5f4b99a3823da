"""The model `preprocess`, with a stand-in for Triton's module."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.evidence_files import A1111, png_with_text
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


@pytest.fixture
def request_for(request_of: Any) -> Callable[..., Any]:
    def request(*images: bytes, prompt: bytes = b"a cat", parameters: str = "") -> Any:
        arrays = {
            "image_bytes": np.array([[image] for image in images], object),
            "prompt": np.array([[prompt]] * len(images), object),
        }
        return request_of(arrays, parameters)

    return request


def test_each_request_has_a_response_of_its_own_rows(
    model: Any, request_for: Callable[..., Any]
) -> None:
    first = request_for(encoded_image(1), b"no image")
    second = request_for(encoded_image(2), prompt=b"a cat on a mat " * 10)
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
        "evidence": object,
    }


def test_a_request_that_asks_for_evidence_gets_it(
    model: Any, request_for: Callable[..., Any]
) -> None:
    generated, plain = png_with_text(parameters=A1111), encoded_image(1)
    cut = generated[: generated.index(b"IDAT")]
    images = (generated, plain, cut, b"no image")
    asked = request_for(*images, parameters='{"evidence":true}')
    others = [
        request_for(*images, parameters=text)
        for text in ("", "{}", '{"evidence":false}', '{"evidence":"true"}', '{"other":1}')
    ]
    answers = [
        {tensor.name: tensor.value for tensor in response.tensors}
        for response in model.execute([others[0], asked, *others[1:]])
    ]
    found = [json.loads(text) for (text,) in answers[1]["evidence"]]
    assert [one["evidence"] for one in found] == ["ai", "none", "ai", "none"]
    assert found[0]["findings"][0]["details"]["seed"] == "4242"
    assert found[1]["findings"] == []
    for answer in (answers[0], *answers[2:]):
        assert answer["evidence"].tolist() == [[b""]] * 4
        for name in ("image", "input_ids", "error"):
            np.testing.assert_array_equal(answer[name], answers[1][name])


def test_a_request_that_cannot_be_prepared_leaves_the_others(
    model: Any, monkeypatch: pytest.MonkeyPatch, request_for: Callable[..., Any]
) -> None:
    def prepare(images: list[bytes], prompts: list[bytes], *, evidence: bool) -> Any:
        if images == [b"too much"]:
            raise MemoryError("no more")
        return real(images, prompts, evidence=evidence)

    real = model._preprocessor.prepare
    monkeypatch.setattr(model._preprocessor, "prepare", prepare)
    bad, good = model.execute([request_for(b"too much"), request_for(encoded_image(1))])
    assert (bad.tensors, bad.error.message) == (
        [],
        "the pairs cannot be prepared: MemoryError: no more",
    )
    assert good.error is None
    assert len(good.tensors) == 5
