"""The embedded scorer: rows do not affect each other, prompts are cached, graphs are checked."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.manifests import SIDE

from aigid.errors import ContractError
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch, pad_to_bucket
from aigid.scorers import PARTS, OnnxScorer, Scores

BUCKETS = (16, 32, 64, 128)
ROWS = 40


@pytest.fixture(scope="module", params=["int8", "fp32"])
def scorer(request: pytest.FixtureRequest, tiny_repository: Path) -> OnnxScorer:
    # Without a cache each prompt is encoded again in each batch.
    return OnnxScorer(tiny_repository, precision=request.param, cached_prompts=0)


@pytest.fixture
def copied_repository(tiny_repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_repository, tmp_path / "repository"))


def random_images(count: int = ROWS) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def prompts(bucket: int, count: int = ROWS) -> TokenBatch:
    rng = np.random.default_rng(bucket)
    # Among them are the shortest and the longest prompt of the bucket.
    lengths = [2, bucket, *rng.integers(4, bucket + 1, count - 2)]
    return pad_to_bucket(
        [[101, *rng.integers(1000, 30_000, length - 2).tolist(), 102] for length in lengths], bucket
    )


def rows_of(tokens: TokenBatch, rows: list[int]) -> TokenBatch:
    return TokenBatch(tokens.input_ids[rows], tokens.attention_mask[rows])


def answers(scores: Scores) -> list[tuple[bytes, bytes]]:
    """Each row's probabilities to the last bit."""
    return [(p.tobytes(), ps.tobytes()) for p, ps in zip(scores.p_ai, scores.p_source, strict=True)]


@pytest.fixture(scope="module")
def answers_alone(scorer: OnnxScorer) -> dict[int, list[tuple[bytes, bytes]]]:
    """The answer of each row in a batch of its own, by bucket."""
    images = random_images()
    found = {}
    for bucket in BUCKETS:
        tokens = prompts(bucket)
        found[bucket] = [
            answers(scorer.score(images[[row]], rows_of(tokens, [row])))[0] for row in range(ROWS)
        ]
    return found


def test_a_score_is_a_probability_and_a_distribution_for_each_row(scorer: OnnxScorer) -> None:
    scores = scorer.score(random_images(), prompts(16))
    assert (scores.p_ai.shape, scores.p_ai.dtype) == ((ROWS,), np.float32)
    assert (scores.p_source.shape, scores.p_source.dtype) == ((ROWS, 6), np.float32)
    assert np.all((scores.p_ai >= 0) & (scores.p_ai <= 1))
    np.testing.assert_allclose(scores.p_source.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(scores.p_source[:, 0], 1 - scores.p_ai, atol=1e-6)


def test_both_the_image_and_the_prompt_count(scorer: OnnxScorer) -> None:
    images, tokens = random_images(2), prompts(16, 2)
    pairs = [(image, prompt) for image in (0, 1) for prompt in (0, 1)]
    scores = scorer.score(
        images[[image for image, _ in pairs]], rows_of(tokens, [prompt for _, prompt in pairs])
    )
    assert len(set(answers(scores))) == 4


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_row_alone_and_in_batches_of_1_to_40_gives_the_same_bits(
    scorer: OnnxScorer, bucket: int, answers_alone: dict[int, list[tuple[bytes, bytes]]]
) -> None:
    images, tokens = random_images(), prompts(bucket)
    for size in range(1, ROWS + 1):
        scores = scorer.score(images[:size], rows_of(tokens, list(range(size))))
        assert answers(scores) == answers_alone[bucket][:size], size


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(BUCKETS), st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS))
def test_a_row_at_any_place_among_any_neighbours_gives_the_same_bits(
    scorer: OnnxScorer,
    answers_alone: dict[int, list[tuple[bytes, bytes]]],
    bucket: int,
    rows: list[int],
) -> None:
    scores = scorer.score(random_images()[rows], rows_of(prompts(bucket), rows))
    assert answers(scores) == [answers_alone[bucket][row] for row in rows]


def test_extreme_neighbours_change_nothing(
    scorer: OnnxScorer, answers_alone: dict[int, list[tuple[bytes, bytes]]]
) -> None:
    # Quantization by the range of the batch would fail here.
    images = random_images()[:6]
    images[[0, 5]], images[[1, 4]] = 0, 255
    rows = [0, 1, 2, 3, 0, 1]
    scores = scorer.score(images, rows_of(prompts(32), rows))
    assert answers(scores)[2:4] == answers_alone[32][2:4]


def test_threads_at_once_get_the_same_bits(
    scorer: OnnxScorer, answers_alone: dict[int, list[tuple[bytes, bytes]]]
) -> None:
    def score(number: int) -> bool:
        bucket, rows = (
            BUCKETS[number % 4],
            [(number * 7 + place) % ROWS for place in range(1 + number % 19)],
        )
        scores = scorer.score(random_images()[rows], rows_of(prompts(bucket), rows))
        return answers(scores) == [answers_alone[bucket][row] for row in rows]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(score, range(80)))


def test_threads_that_share_cached_prompts_get_the_same_bits(
    tiny_repository: Path, answers_alone: dict[int, list[tuple[bytes, bytes]]], scorer: OnnxScorer
) -> None:
    # So small a cache that the threads evict each other's prompts all the time.
    small = OnnxScorer(tiny_repository, precision=scorer.precision, cached_prompts=5)

    def score(number: int) -> bool:
        rows = [(number * 3 + place) % 12 for place in range(7)]
        scores = small.score(random_images()[rows], rows_of(prompts(16), rows))
        return answers(scores) == [answers_alone[16][row] for row in rows]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(score, range(200)))


class CountingSession:
    """A graph's session that also records the rows that it ran."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.rows: list[bytes] = []

    def run(self, names: Any, feed: dict[str, np.ndarray]) -> Any:
        self.rows += [row.tobytes() for row in feed["input_ids"]]
        return self._session.run(names, feed)


@pytest.fixture
def counted(
    tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], tuple[OnnxScorer, CountingSession]]:
    def make(cached_prompts: int) -> tuple[OnnxScorer, CountingSession]:
        scorer = OnnxScorer(tiny_repository, cached_prompts=cached_prompts)
        session = CountingSession(scorer._bert)
        monkeypatch.setattr(scorer, "_bert", session)
        return scorer, session

    return make


Counted = Callable[[int], tuple[OnnxScorer, CountingSession]]


@pytest.fixture(scope="module")
def forgetful(tiny_repository: Path) -> OnnxScorer:
    return OnnxScorer(tiny_repository, cached_prompts=0)


def test_a_prompt_repeated_in_a_batch_is_encoded_once(
    counted: Counted, forgetful: OnnxScorer
) -> None:
    scorer, session = counted(100)
    images, tokens, rows = random_images(6), prompts(16), [0, 1, 0, 0, 2, 1]
    scores = scorer.score(images, rows_of(tokens, rows))
    assert sorted(session.rows) == sorted(tokens.input_ids[row].tobytes() for row in (0, 1, 2))
    alone = [
        forgetful.score(images[[place]], rows_of(tokens, [row])) for place, row in enumerate(rows)
    ]
    assert answers(scores) == [answers(score)[0] for score in alone]


def test_a_prompt_that_comes_again_in_a_later_batch_is_not_encoded_again(counted: Counted) -> None:
    scorer, session = counted(100)
    first = scorer.score(random_images(20), prompts(16, 20))
    assert len(session.rows) == 20
    again = scorer.score(random_images(20), prompts(16, 20))
    assert len(session.rows) == 20
    assert answers(again) == answers(first)
    scorer.score(random_images(20), prompts(32, 20))
    assert len(session.rows) == 40


def test_only_the_most_recent_prompts_are_cached(counted: Counted) -> None:
    scorer, session = counted(3)
    tokens = prompts(16)

    def encoded(*rows: int) -> int:
        before = len(session.rows)
        scorer.score(random_images(len(rows)), rows_of(tokens, list(rows)))
        return len(session.rows) - before

    assert encoded(0, 1, 2) == 3
    assert encoded(0) == 0
    # The least recent is 1, for 0 has just come again.
    assert encoded(3) == 1
    assert encoded(0, 2, 3) == 0
    assert encoded(1) == 1


def test_a_batch_of_more_prompts_than_the_cache_holds_is_scored(
    counted: Counted, forgetful: OnnxScorer
) -> None:
    scorer, _ = counted(3)
    assert answers(scorer.score(random_images(), prompts(16))) == answers(
        forgetful.score(random_images(), prompts(16))
    )


def test_memory_of_the_cache_is_bounded(counted: Counted) -> None:
    import gc
    import weakref

    scorer, _ = counted(4)
    kept: list[weakref.ref[np.ndarray]] = []
    for bucket in BUCKETS:
        scorer.score(random_images(), prompts(bucket))
        kept += [weakref.ref(value) for value in scorer._texts._features.values()]
    gc.collect()
    alive = [reference() for reference in kept if reference() is not None]
    assert len(alive) == 4
    # Views would keep the features of whole batches.
    assert all(value.base is None for value in alive)


def test_the_contracts_precision_is_used_unless_another_is_asked_for(tiny_repository: Path) -> None:
    assert (
        OnnxScorer(tiny_repository).precision
        == OnnxScorer(tiny_repository).contract.cpu_precision
        == "int8"
    )
    assert OnnxScorer(tiny_repository, precision="fp32").precision == "fp32"


def graph(repository: Path, part: str) -> Path:
    return repository / part / "1" / "model.int8.onnx"


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_graph_is_named(copied_repository: Path, part: str) -> None:
    graph(copied_repository, part).unlink()
    with pytest.raises(ContractError, match="no such file") as caught:
        OnnxScorer(copied_repository)
    assert str(graph(copied_repository, part)) in str(caught.value)


def test_a_precision_that_was_not_built_is_named(tiny_repository: Path) -> None:
    with pytest.raises(ContractError, match=r"has no bf16 graph of bert") as caught:
        OnnxScorer(tiny_repository, precision="bf16")
    assert str(tiny_repository / "bert" / "1" / "model.bf16.onnx") in str(caught.value)
    assert "aigid build CHECKPOINT REPOSITORY --calibration" in str(caught.value)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "flipped"])
def test_a_damaged_graph_is_named(copied_repository: Path, part: str, damage: str) -> None:
    path = graph(copied_repository, part)
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "empty": b"",
        "text": b"not a graph",
        "truncated": whole[:middle],
        "flipped": bytes(255 - byte for byte in whole[:200]) + whole[200:],
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(ContractError) as caught:
        OnnxScorer(copied_repository)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def with_fingerprint(path: Path, fingerprint: str | None) -> None:
    model = onnx.load(path)
    metadata = {item.key: item.value for item in model.metadata_props}
    del model.metadata_props[:]
    metadata.pop("aigid.fingerprint")
    if fingerprint is not None:
        metadata["aigid.fingerprint"] = fingerprint
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("fingerprint", ["0" * 64, None])
def test_a_graph_of_another_model_is_named(
    copied_repository: Path, part: str, fingerprint: str | None
) -> None:
    path = graph(copied_repository, part)
    with_fingerprint(path, fingerprint)
    with pytest.raises(ContractError, match="made from model") as caught:
        OnnxScorer(copied_repository)
    assert str(path) in str(caught.value)


def test_a_contract_of_another_model_is_refused(copied_repository: Path) -> None:
    path = copied_repository / "contract.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | {"fingerprint": "1" * 64}), encoding="utf-8")
    with pytest.raises(ContractError, match="1" * 64) as caught:
        OnnxScorer(copied_repository)
    assert values["fingerprint"] in str(caught.value)


@pytest.mark.parametrize("other", ["bert/1/model.int8.onnx", "clip_vision/1/model.fp32.onnx"])
def test_the_graph_of_another_part_or_precision_is_named(
    copied_repository: Path, other: str
) -> None:
    shutil.copyfile(copied_repository / other, graph(copied_repository, "clip_vision"))
    with pytest.raises(ContractError, match="expected the int8 graph of clip_vision") as caught:
        OnnxScorer(copied_repository)
    assert str(graph(copied_repository, "clip_vision")) in str(caught.value)


def test_a_repository_without_a_contract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="contract.json"):
        OnnxScorer(tmp_path)
