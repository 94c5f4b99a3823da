"""The model `aigid_pairs`, with a stand-in for Triton's module and the real graphs behind it."""

import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.evidence_files import A1111, png_with_text
from support.manifests import encoded_image

from aigid import Detector
from aigid.contract import load_contract


@pytest.fixture
def model(tiny_repository: Path, python_backend: None, graphs: Any) -> Iterator[Any]:
    """The model in the repository's file, as the backend loads it."""
    version = load_contract(tiny_repository).version
    names = runpy.run_path(str(tiny_repository / "aigid_pairs" / str(version) / "model.py"))
    model = names["TritonPythonModel"]()
    model.initialize({"model_repository": str(tiny_repository / "aigid_pairs")})
    yield model
    model.finalize()


@pytest.fixture
def request_for(request_of: Any) -> Callable[..., Any]:
    def request(*images: bytes, prompt: bytes = b"a cat", parameters: str = "") -> Any:
        arrays = {
            "image_bytes": np.array([[image] for image in images], object),
            "prompt": np.array([[prompt]] * len(images), object),
        }
        return request_of(arrays, parameters)

    return request


def tensors(response: Any) -> dict[str, Any]:
    assert response.refusal is None
    return {tensor.name: tensor.value for tensor in response.tensors}


def test_pairs_of_all_requests_are_scored_together_and_get_their_own_scores(
    model: Any, request_for: Callable[..., Any], graphs: Any, tiny_repository: Path
) -> None:
    long = "a cat on a mat " * 10
    first = request_for(encoded_image(1), b"no image", encoded_image(2))
    second = request_for(encoded_image(2), prompt=long.encode())
    answers = [tensors(one) for one in model.execute([first, second])]
    expected = Detector.load(tiny_repository).detect(
        [encoded_image(1), encoded_image(2), encoded_image(2)], ["a cat", "a cat", long]
    )
    found = np.concatenate([answers[0]["p_source"][[0, 2]], answers[1]["p_source"]])
    np.testing.assert_allclose(found, [one.p_source for one in expected], atol=1e-5)
    assert answers[0]["error"].tolist() == [[b""], [b"undecodable"], [b""]]
    for name in ("p_ai", "known_score", "p_source"):
        assert answers[0][name].dtype == np.float32
        assert np.isnan(answers[0][name][1]).all()
    assert sorted(graphs.asked) == [
        ("bert", 1),
        ("bert", 2),
        ("clip_vision", 3),
        ("fusion_heads", 3),
    ]


def test_pairs_without_an_image_are_not_scored(
    model: Any, request_for: Callable[..., Any], graphs: Any
) -> None:
    (answer,) = model.execute([request_for(b"no image", b"")])
    assert tensors(answer)["error"].tolist() == [[b"undecodable"], [b"empty"]]
    assert np.isnan(tensors(answer)["p_ai"]).all()
    assert graphs.asked == []


def test_a_client_that_has_given_up_costs_nothing(
    model: Any, request_for: Callable[..., Any], graphs: Any
) -> None:
    gone, waits = request_for(encoded_image(1)), request_for(encoded_image(2))
    gone.gave_up = True
    nothing, answer = model.execute([gone, waits])
    assert nothing.refusal.code() == "cancelled"
    assert not np.isnan(tensors(answer)["p_ai"]).any()
    assert ("clip_vision", 1) in graphs.asked


@pytest.mark.parametrize("part", ["bert", "clip_vision", "fusion_heads"])
def test_the_error_of_a_graph_is_the_error_of_the_requests_that_need_it(
    model: Any, request_for: Callable[..., Any], graphs: Any, part: str
) -> None:
    graphs.refused[part] = "Exceeds maximum queue size"
    images = (encoded_image(1), encoded_image(2), b"no image")
    *failed, unread = model.execute([request_for(image) for image in images])
    for one in failed:
        assert (one.refusal.message(), one.refusal.code()) == (graphs.refused[part], "unavailable")
    assert tensors(unread)["error"].tolist() == [[b"undecodable"]]


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
        for name in ("p_source", "error"):
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
    assert (bad.tensors, bad.refusal.message()) == (
        [],
        "the pairs cannot be prepared: MemoryError: no more",
    )
    assert good.refusal is None
    assert len(good.tensors) == 5
