"""The model `aigid`, with a stand-in for Triton's module and the real graphs behind it."""

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigid.contract import load_contract
from aigid.prompts import TokenBatch
from aigid.scorers import OnnxScorer


@pytest.fixture
def model(tiny_repository: Path, python_backend: None, graphs: Any) -> Iterator[Any]:
    """The model in the repository's file, as the backend loads it."""
    version = load_contract(tiny_repository).version
    names = runpy.run_path(str(tiny_repository / "aigid" / str(version) / "model.py"))
    model = names["TritonPythonModel"]()
    model.initialize({"model_repository": str(tiny_repository / "aigid")})
    yield model
    model.finalize()


@pytest.fixture
def request_for(request_of: Any, tiny_repository: Path) -> Callable[..., Any]:
    side = load_contract(tiny_repository).image.size

    def request(seed: int, rows: int = 2, length: int = 16, mask: int | None = None) -> Any:
        rng = np.random.default_rng(seed)
        return request_of(
            {
                "image": rng.integers(0, 255, (rows, side, side, 3)).astype(np.uint8),
                "input_ids": rng.integers(1, 1000, (rows, length)).astype(np.int32),
                "attention_mask": np.ones((rows, length if mask is None else mask), np.int32),
            }
        )

    return request


def test_requests_of_different_lengths_are_scored_together_and_apart(
    model: Any, request_for: Callable[..., Any], graphs: Any, tiny_repository: Path
) -> None:
    requests = [request_for(0), request_for(1, length=64), request_for(2, rows=3)]
    scorer = OnnxScorer(tiny_repository)
    for request, response in zip(requests, model.execute(requests), strict=True):
        assert response.refusal is None
        tokens = TokenBatch(request["input_ids"], request["attention_mask"])
        expected = scorer.score(request["image"], tokens)
        found = {tensor.name: tensor.value for tensor in response.tensors}
        np.testing.assert_allclose(found["p_ai"][:, 0], expected.p_ai, atol=1e-5)
        np.testing.assert_allclose(found["known_score"][:, 0], expected.known_score, atol=1e-5)
        np.testing.assert_allclose(found["p_source"], expected.p_source, atol=1e-5)
    assert sorted(graphs.asked) == [
        ("bert", 2),
        ("bert", 5),
        ("clip_vision", 7),
        ("fusion_heads", 7),
    ]


def test_wrong_tokens_are_the_error_of_their_request_only(
    model: Any, request_for: Callable[..., Any]
) -> None:
    out_of_range = request_for(0)
    out_of_range["input_ids"][1, 3] = 10**6
    bad = [out_of_range, request_for(1, length=200), request_for(2, mask=9)]
    good = request_for(3)
    *refused, answer = model.execute([*bad, good])
    assert answer.refusal is None
    for one in refused:
        assert one.refusal.code() == "invalid argument"
        assert "input_ids must be ids of the vocabulary, at most 128 a row" in one.refusal.message()


def test_a_client_that_has_given_up_costs_nothing(
    model: Any, request_for: Callable[..., Any], graphs: Any
) -> None:
    gone = request_for(0)
    gone.gave_up = True
    (nothing,) = model.execute([gone])
    assert nothing.refusal.code() == "cancelled"
    assert graphs.asked == []
