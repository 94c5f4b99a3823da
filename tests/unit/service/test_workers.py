"""The threads that decode and score: right answers, shared batches, failures, an end."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager

import numpy as np
import pytest
from support.manifests import CAPTIONS, REPOSITORY, encoded_image

import aigid
from aigid.contract import TOKENIZER_FILE
from aigid.decisions import VerdictRule
from aigid.detection import DecisionRule, Detection
from aigid.errors import ServerError
from aigid.pixels import Pixels, decode_image
from aigid.prompts import PromptEncoder, TokenBatch
from aigid.records import ErrorCode, Mode, RowError
from aigid.scorers import OnnxScorer, Scores
from aigid.service import ServiceMetrics
from aigid.service.workers import BATCH_ROWS, DecodedPair, PairWorkers

ROWS = 80
IMAGES = [encoded_image(seed, side=64) for seed in range(ROWS)]
PROMPTS = [CAPTIONS[seed % len(CAPTIONS)] * (seed % 3) for seed in range(ROWS)]


class HeldScorer(OnnxScorer):
    """The embedded scorer, which waits until it may go on, and notes the sizes of its batches."""

    def __init__(self) -> None:
        super().__init__(REPOSITORY)
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.rows: list[int] = []
        self.error: Exception | None = None

    def submit(self, images: Pixels, tokens: TokenBatch) -> "Future[Scores]":
        self.rows.append(len(images))
        self.may_go_on.wait()
        if self.error is not None:
            raise self.error
        return super().submit(images, tokens)


class Workers:
    """Workers on the demo model, and what they need to decode."""

    def __init__(self, scorer: HeldScorer, threads: int) -> None:
        self.scorer, contract = scorer, scorer.contract
        self.prompts = PromptEncoder(REPOSITORY / TOKENIZER_FILE, contract.prompt)
        rule = DecisionRule(contract, 0.5, VerdictRule.of(Mode.BEST_GUESS, 0.5, contract))
        metrics = ServiceMetrics(contract)
        self.workers = PairWorkers(scorer, self.prompts, rule, threads, metrics)

    def submit(self, row: int) -> "Future[Detection]":
        return self.workers.submit(lambda: self.decode(row))

    def decode(self, row: int) -> DecodedPair:
        pixels = decode_image(IMAGES[row], self.scorer.contract.image)
        return DecodedPair(pixels, self.prompts.token_ids([PROMPTS[row]])[0], None)


@contextmanager
def working(threads: int) -> Iterator[Workers]:
    scorer = HeldScorer()
    workers = Workers(scorer, threads)
    try:
        yield workers
    finally:
        scorer.may_go_on.set()
        workers.workers.close()


@pytest.fixture(scope="module")
def expected() -> list[Detection]:
    detector = aigid.Detector.load()
    return detector.detect(IMAGES, PROMPTS)


@pytest.mark.parametrize("threads", [1, 3])
def test_answers_are_those_of_the_detector(expected: list[Detection], threads: int) -> None:
    with working(threads) as workers:
        answers = [future.result() for future in list(map(workers.submit, range(ROWS)))]
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer.p_ai is not None
        np.testing.assert_allclose(answer.p_ai, wanted.p_ai, atol=1e-6)
        assert (answer.verdict, answer.source) == (wanted.verdict, wanted.source)


def test_pairs_gather_while_the_scorer_is_busy() -> None:
    with working(threads=2) as workers:
        workers.scorer.may_go_on.clear()
        first = workers.submit(0)
        while not workers.scorer.rows:
            threading.Event().wait(0.01)
        # The other thread decodes on, until a batch is full.
        others = [workers.submit(3 * row) for row in range(BATCH_ROWS // 2)]
        workers.scorer.may_go_on.set()
        for future in (first, *others):
            future.result()
        assert workers.scorer.rows[0] == 1
        assert len(workers.scorer.rows) < len(others)


def test_a_failure_of_the_scorer_is_one_of_its_batch_alone() -> None:
    with working(threads=1) as workers:
        workers.scorer.error = ServerError("the server is away")
        with pytest.raises(ServerError, match="the server is away"):
            workers.submit(0).result()
        workers.scorer.error = None
        assert workers.submit(0).result().p_ai is not None


def test_failures_of_decoding_and_answers_without_scoring_are_the_pair_s() -> None:
    answer = Detection.failed(RowError(ErrorCode.EMPTY, "zero bytes"))

    def fail() -> DecodedPair:
        raise ValueError("a fault")

    with working(threads=1) as workers:
        assert workers.workers.submit(lambda: answer).result() is answer
        with pytest.raises(ValueError, match="a fault"):
            workers.workers.submit(fail).result()
        assert workers.submit(1).result().p_ai is not None
        assert not workers.scorer.rows[1:]


def test_a_pair_that_is_given_up_in_time_is_neither_decoded_nor_scored() -> None:
    decoded = []
    with working(threads=1) as workers:
        workers.scorer.may_go_on.clear()
        first = workers.submit(0)
        while not workers.scorer.rows:
            threading.Event().wait(0.01)
        given_up = workers.workers.submit(lambda: decoded.append(1) or workers.decode(1))
        assert given_up.cancel()
        last = workers.submit(2)
        workers.scorer.may_go_on.set()
        assert first.result().p_ai is not None
        assert last.result().p_ai is not None
    assert not decoded


def test_closing_cancels_what_waits_and_ends_the_threads() -> None:
    before = threading.active_count()
    with working(threads=2) as workers:
        workers.scorer.may_go_on.clear()
        futures = [workers.submit(row) for row in range(ROWS)]
        while len(workers.scorer.rows) < 2:
            threading.Event().wait(0.01)
        closing = threading.Thread(target=workers.workers.close)
        closing.start()
        with pytest.raises(CancelledError):
            futures[-1].result(timeout=60)
        workers.scorer.may_go_on.set()
        closing.join()
    assert threading.active_count() <= before
    assert futures[0].result().p_ai is not None
