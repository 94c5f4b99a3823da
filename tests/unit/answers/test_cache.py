"""Answers that rows share: who finds them, who waits, what is kept."""

from concurrent.futures import CancelledError, Future

import numpy as np
import pytest

from aigid.answers import AnswerCache, BatchAnswers, Noted, cache
from aigid.errors import ServerError
from aigid.evidence import RowEvidence, Says
from aigid.records import ErrorCode, RowError
from aigid.scorers import Scores

CAT, DOG = b"c" * 32, b"d" * 32
NONE, FOUND = Noted(), Noted(99, RowEvidence(Says.AI, "[1]"))
DAMAGED = RowError(ErrorCode.UNDECODABLE, "not an image")


def nothing(position: int) -> Noted:
    return NONE


def scores(*p_ai: float) -> "Future[Scores]":
    future: Future[Scores] = Future()
    future.set_result(scores_of(*p_ai))
    return future


def scores_of(*p_ai: float) -> Scores:
    column = np.array(p_ai, np.float32)
    return Scores(column, np.stack([1 - column, column, column * 0], 1), column / 2)


def test_the_first_row_finds_the_answer_and_the_others_get_it() -> None:
    answers = AnswerCache()
    first, second = BatchAnswers(answers), BatchAnswers(answers)
    assert not first.has_other(0, CAT, [1, 2])
    assert not first.has_other(1, DOG, [1, 2])
    assert first.has_other(2, CAT, [1, 2])
    assert second.has_other(7, DOG, [1, 2])
    first.settle([0, 1], scores(0.25, 0.75), {}, {0: NONE, 1: FOUND}.__getitem__)
    second.settle([], None, {}, nothing)
    assert first.others()[2].p_ai == 0.25
    (found,) = second.others().values()
    assert (found.p_ai, found.known_score, found.error, found.noted) == (0.75, 0.375, None, FOUND)
    assert found.p_source is not None and found.p_source.tolist() == [0.25, 0.75, 0]
    first.keep()
    later = BatchAnswers(answers)
    assert later.has_other(3, CAT, [1, 2])
    assert later.others()[3].p_ai == 0.25


@pytest.mark.parametrize(
    ("sha256", "token_ids"),
    [(DOG, [1, 2]), (CAT, [1]), (CAT, [1, 2, 0]), (CAT, []), (CAT[:-1] + b"d", [1, 2])],
)
def test_another_image_or_another_prompt_is_another_answer(
    sha256: bytes, token_ids: list[int]
) -> None:
    batch = BatchAnswers(AnswerCache())
    assert not batch.has_other(0, CAT, [1, 2])
    assert not batch.has_other(1, sha256, token_ids)


def test_errors_of_decoding_are_shared_and_those_of_fetching_are_not() -> None:
    answers = AnswerCache()
    first, second = BatchAnswers(answers), BatchAnswers(answers)
    assert not first.has_other(0, CAT, [1])
    assert second.has_other(0, CAT, [1])
    # Row 1 has no bytes, because it could not be fetched.
    first.settle([], None, {0: DAMAGED, 1: RowError(ErrorCode.TIMEOUT, "no answer")}, nothing)
    assert second.others()[0].error == DAMAGED
    first.keep()
    third = BatchAnswers(answers)
    assert third.has_other(5, CAT, [1])
    assert third.others()[5].error == DAMAGED


@pytest.mark.parametrize("failure", [ServerError("gone"), CancelledError()])
def test_those_who_wait_for_a_batch_that_fails_fail_alike(failure: Exception) -> None:
    answers = AnswerCache()
    first, second = BatchAnswers(answers), BatchAnswers(answers)
    first.has_other(0, CAT, [1])
    assert second.has_other(0, CAT, [1])
    first.fail(failure)
    with pytest.raises(type(failure)):
        second.others()


def test_those_who_wait_for_scores_that_fail_fail_alike() -> None:
    answers = AnswerCache()
    first, second = BatchAnswers(answers), BatchAnswers(answers)
    first.has_other(0, CAT, [1])
    assert second.has_other(0, CAT, [1])
    failed: Future[Scores] = Future()
    first.settle([0], failed, {}, nothing)
    failed.set_exception(ServerError("no server is left"))
    for batch in (first.keep, second.others):
        with pytest.raises(ServerError, match="no server is left"):
            batch()


def test_a_new_scan_does_not_wait_for_one_that_ended() -> None:
    answers = AnswerCache()
    ended, kept = BatchAnswers(answers), BatchAnswers(answers)
    kept.has_other(0, DOG, [1])
    kept.settle([0], scores(0.5), {}, nothing)
    kept.keep()
    ended.has_other(0, CAT, [1])
    answers.drop_pending()
    new = BatchAnswers(answers)
    assert not new.has_other(0, CAT, [1])
    assert new.has_other(1, DOG, [1])
    # What the ended one still finds is as good.
    ended.settle([0], scores(0.5), {}, nothing)
    ended.keep()


@pytest.mark.parametrize(("detail", "most"), [("", 5), ("x" * 1000, 3)])
def test_the_oldest_answers_go_when_there_are_too_many_or_too_large_ones(
    detail: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_MOST_ANSWERS", 5)
    monkeypatch.setattr(cache, "_MOST_BYTES", 3 * (640 + 12 + 4000) + 1)
    answers = AnswerCache()
    noted = Noted(1, RowEvidence(Says.AI, detail))
    for number in range(9):
        batch = BatchAnswers(answers)
        assert not batch.has_other(0, bytes([number]) * 32, [1])
        batch.settle([0], scores(0.5), {}, lambda position: noted)
        batch.keep()
    # Looking for one that is gone makes a new one: the youngest are looked for first.
    found = [
        BatchAnswers(answers).has_other(0, bytes([number]) * 32, [1])
        for number in reversed(range(9))
    ]
    assert found == [True] * most + [False] * (9 - most)


def test_an_answer_does_not_keep_the_scores_of_its_whole_batch() -> None:
    answers = AnswerCache()
    batch = BatchAnswers(answers)
    batch.has_other(0, CAT, [1])
    done = scores(0.5, 0.25)
    batch.settle([0], done, {}, nothing)
    batch.keep()
    later = BatchAnswers(answers)
    later.has_other(0, CAT, [1])
    kept = later.others()[0].p_source
    assert kept is not None and kept.base is None
