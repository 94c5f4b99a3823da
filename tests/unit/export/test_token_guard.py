"""Wrong token ids in one row neither fail the graph nor change another row."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.onnx_graphs import TINY_WORDS, example_feed

Tokens = npt.NDArray[np.int32]
VOCABULARY, MAX_TOKENS = 16, 32


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def bert(request: pytest.FixtureRequest, fp32: dict[str, Path]) -> ort.InferenceSession:
    return ort.InferenceSession(
        fp32["bert"].with_name(f"model.{request.param}.onnx"), providers=["CPUExecutionProvider"]
    )


def features(bert: ort.InferenceSession, ids: Tokens, mask: Tokens) -> npt.NDArray[np.float32]:
    (answer,) = bert.run(["text_features"], {"input_ids": ids, "attention_mask": mask})
    return np.asarray(answer)


@pytest.mark.parametrize(
    "wrong", [VOCABULARY, -1, 10**6, np.iinfo(np.int32).max, np.iinfo(np.int32).min]
)
def test_an_id_outside_the_vocabulary_affects_only_its_own_row(
    bert: ort.InferenceSession, wrong: int
) -> None:
    feed = example_feed("bert", 5, tokens=16)
    ids, mask = feed["input_ids"], feed["attention_mask"]
    right = features(bert, ids, mask)
    assert np.isfinite(right).all()
    changed = ids.copy()
    changed[2, 7] = wrong
    answer = features(bert, changed, mask)
    assert np.isnan(answer[2]).all()
    np.testing.assert_array_equal(np.delete(answer, 2, axis=0), np.delete(right, 2, axis=0))


def test_the_first_and_last_id_of_the_vocabulary_are_valid(bert: ort.InferenceSession) -> None:
    ids = np.array([[2, 0, VOCABULARY - 1, 3]], np.int32)
    assert np.isfinite(features(bert, ids, np.ones_like(ids))).all()


def test_too_many_tokens_and_none_give_nan(
    bert: ort.InferenceSession,
) -> None:
    ids = np.ones((3, MAX_TOKENS), np.int32)
    assert np.isfinite(features(bert, ids, np.ones_like(ids))).all()
    for tokens in (0, MAX_TOKENS + 1, 5 * MAX_TOKENS):
        ids = np.ones((3, tokens), np.int32)
        assert np.isnan(features(bert, ids, np.ones_like(ids))).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(1, 4), st.integers(0, 80), st.integers(0, 80), st.integers(0, 2**32 - 1))
def test_every_combination_of_lengths_gives_an_answer(
    bert: ort.InferenceSession, rows: int, tokens: int, mask_tokens: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(-2, TINY_WORDS + 4, (rows, tokens), dtype=np.int32)
    mask = (np.arange(mask_tokens) < rng.integers(0, mask_tokens + 1, (rows, 1))).astype(np.int32)
    answer = features(bert, ids, mask)
    assert answer.shape[0] == rows
    known = ((ids >= 0) & (ids < VOCABULARY)).all(axis=1)
    right = known & (0 < tokens <= MAX_TOKENS) & (mask_tokens == tokens)
    np.testing.assert_array_equal(np.isfinite(answer).all(axis=1), right)
    np.testing.assert_array_equal(np.isnan(answer).all(axis=1), ~right)
