"""Scoring on servers that fail: which requests are sent again, where, and what ends scoring."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.manifests import REPOSITORY
from support.scan_process import wait_until
from support.stand_in_triton import StandInServer

from aigid.contract import load_contract
from aigid.errors import AigidError, ContractError, ServerError
from aigid.prompts import TokenBatch
from aigid.scorers import (
    TENSORS_MODEL,
    ModelSpec,
    TensorSpec,
    TritonConfig,
    TritonScorer,
    triton_pool,
)

CONTRACT = load_contract(REPOSITORY)
SIDE = CONTRACT.image.size
BUSY = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
BROKEN = (grpc.StatusCode.INTERNAL, "Stub process is not healthy")
REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'image'")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health checks and retries follow each other quickly in these tests."""
    monkeypatch.setattr(triton_pool, "_BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(triton_pool, "_HEALTH_EVERY_S", 0.1)
    monkeypatch.setattr(triton_pool, "_HEALTH_TIMEOUT_S", 1.0)


@contextmanager
def scoring(
    *servers: StandInServer, messages: list[str] | None = None, **options: Any
) -> Iterator[TritonScorer]:
    config = TritonConfig(tuple(server.address for server in servers), **options)
    on_message = ([] if messages is None else messages).append
    scorer = TritonScorer(REPOSITORY, config, 4, on_message)
    try:
        yield scorer
    finally:
        scorer.close()


def batch(*firsts: int) -> tuple[npt.NDArray[np.uint8], TokenBatch]:
    """Images whose first byte tells them apart; the stand-in's answer is that byte / 255."""
    images = np.zeros((len(firsts), SIDE, SIDE, 3), np.uint8)
    images[:, 0, 0, 0] = firsts
    ids = np.ones((len(firsts), 16), np.int32)
    return images, TokenBatch(ids, ids)


def assert_right(scorer: TritonScorer, batches: list[tuple[int, ...]]) -> None:
    answers = [scorer.submit(*batch(*firsts)) for firsts in batches]
    for firsts, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer.result(30).p_ai, np.array(firsts, np.float32) / 255)


def test_every_batch_has_its_own_answer_and_in_flight_bounds_the_requests() -> None:
    with StandInServer(CONTRACT) as server, scoring(server, in_flight=3) as scorer:
        server.delay.clear()
        threading.Timer(0.5, server.delay.set).start()
        assert_right(scorer, [(number, number + 1) for number in range(40)])
        assert server.most_at_once == 3
        assert scorer.in_flight == 3


@settings(max_examples=10)
@given(st.lists(st.sampled_from([BUSY, BROKEN, None, None, None]), min_size=1, max_size=20))
def test_a_request_is_sent_again_after_passing_failures(failures: list[Any]) -> None:
    lock = threading.Lock()

    def fail(call: int) -> Any:
        with lock:
            return failures.pop() if failures else None

    with StandInServer(CONTRACT, fail) as server, scoring(server, in_flight=32) as scorer:
        answers = [scorer.submit(*batch(number)) for number in range(6)]
        for number, answer in enumerate(answers):
            try:
                np.testing.assert_allclose(answer.result(30).p_ai, [number / 255], rtol=1e-6)
            except ServerError as error:
                assert "failed 5 times" in str(error)


def test_a_request_that_fails_goes_to_the_other_server() -> None:
    with StandInServer(CONTRACT, lambda call: BROKEN) as bad, StandInServer(CONTRACT) as good:
        with scoring(bad, good) as scorer:
            assert_right(scorer, [(number,) for number in range(20)])
        assert good.calls == 20
        assert bad.calls > 0


def test_the_least_loaded_server_gets_the_request() -> None:
    with (
        StandInServer(CONTRACT) as slow,
        StandInServer(CONTRACT) as quick,
        scoring(slow, quick, in_flight=8) as scorer,
    ):
        slow.delay.clear()
        answers = [scorer.submit(*batch(number)) for number in range(40)]
        wait_until(lambda: quick.calls == 32, "the quick server has not done the rest")
        assert (slow.now, quick.calls) == (8, 32), "the slow server has as many as it may have"
        slow.delay.set()
        for number, answer in enumerate(answers):
            np.testing.assert_allclose(answer.result(20).p_ai, [number / 255], rtol=1e-6)


def test_a_wrong_request_is_sent_once_and_the_error_has_the_server_s_words() -> None:
    with StandInServer(CONTRACT, lambda call: REFUSED) as server, scoring(server) as scorer:
        with pytest.raises(
            ServerError,
            match=f"{server.address} refuses a request: unexpected shape for input 'image'",
        ):
            scorer.score(*batch(1))
        assert server.calls == 1


def test_a_request_that_always_fails_ends_with_the_reason() -> None:
    with StandInServer(CONTRACT, lambda call: BROKEN) as server, scoring(server) as scorer:
        with pytest.raises(
            ServerError,
            match=f"failed 5 times, the last time on .*{server.address}: Stub process is not",
        ):
            scorer.score(*batch(1))
        assert server.calls == 5


def test_a_request_without_an_answer_in_time_is_sent_again() -> None:
    with (
        StandInServer(CONTRACT) as hangs,
        StandInServer(CONTRACT) as other,
        scoring(hangs, other, deadline_s=0.3) as scorer,
    ):
        hangs.delay.clear()
        assert_right(scorer, [(number,) for number in range(6)])
        other.delay.clear()
        with pytest.raises(ServerError, match="failed 5 times.*Deadline Exceeded"):
            scorer.score(*batch(1))


def test_a_server_that_goes_is_reported_once_and_waited_for() -> None:
    messages: list[str] = []
    with (
        StandInServer(CONTRACT) as server,
        scoring(server, messages=messages, patience_s=60) as scorer,
    ):
        assert_right(scorer, [(1,), (2,)])
        server.stop()
        answers = [scorer.submit(*batch(number)) for number in range(5)]
        wait_until(lambda: bool(messages), "the loss of the server is not reported")
        # Several more health checks fail meanwhile.
        time.sleep(0.5)
        assert len(messages) == 1
        assert f"Triton server {server.address} does not answer: " in messages[0]
        assert messages[0].endswith("; waiting for it, for up to 60 s")
        with server:
            for number, answer in enumerate(answers):
                np.testing.assert_allclose(answer.result(30).p_ai, [number / 255], rtol=1e-6)
            assert messages[1:] == [f"Triton server {server.address} answers again"]


def test_a_server_that_comes_back_with_another_model_gets_no_request() -> None:
    messages: list[str] = []
    with (
        StandInServer(CONTRACT) as server,
        scoring(server, messages=messages, patience_s=1) as scorer,
    ):
        server.stop()
        other = StandInServer(replace(CONTRACT, fingerprint="0" * 64))
        other.address = server.address
        with other:
            wait_until(lambda: bool(messages), "the loss of the server is not reported")
            with pytest.raises(
                ServerError,
                match=f"no Triton server .* for 1 s: {other.address}: .*serves model 0000",
            ):
                scorer.score(*batch(1))
            assert other.calls == 0


def test_two_servers_of_which_one_is_gone_at_the_start() -> None:
    messages: list[str] = []
    with StandInServer(CONTRACT) as gone, StandInServer(CONTRACT) as server:
        gone.stop()
        with scoring(gone, server, messages=messages) as scorer:
            assert_right(scorer, [(number,) for number in range(5)])
        assert len(messages) == 1
        assert f"{gone.address} does not answer" in messages[0]
        assert messages[0].endswith(f"going on with {server.address}")


def another_model(server: StandInServer) -> None:
    server.contract = replace(CONTRACT, fingerprint="ab" * 32)


def no_fingerprint(server: StandInServer) -> None:
    server.contract = replace(CONTRACT, fingerprint="")


def other_tensors(server: StandInServer) -> None:
    spec = server.specs[TENSORS_MODEL]
    server.specs[TENSORS_MODEL] = ModelSpec(
        (TensorSpec("image", "TYPE_FP32", (3, 64, 64)), *spec.inputs[1:]), spec.outputs
    )


def other_outputs(server: StandInServer) -> None:
    server.specs[TENSORS_MODEL] = ModelSpec(
        server.specs[TENSORS_MODEL].inputs, (TensorSpec("logits", "TYPE_FP32", (6,)),)
    )


def no_such_model(server: StandInServer) -> None:
    server.names = ["resnet50", "yolo"]


def small_batches(server: StandInServer) -> None:
    server.max_batch_size = 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            another_model,
            f"it serves model {'ab' * 8}..., but the model asked for is aigid-demo, "
            f"{CONTRACT.fingerprint[:16]}...: set `model` to the repository that it serves",
        ),
        (
            no_fingerprint,
            "its configuration does not name the model that it serves: build the repository again: "
            "aigid build CHECKPOINT REPOSITORY --calibration MANIFEST",
        ),
        (
            other_tensors,
            r"the inputs of its model aigid are .*image TYPE_FP32 \[3, 64, 64\], .*unlike the "
            "contract's",
        ),
        (
            other_outputs,
            r"the outputs of its model aigid are logits TYPE_FP32 \[6\], unlike the contract's",
        ),
        (no_such_model, "it has no model aigid: serve a model repository made by aigid build"),
        (small_batches, "it takes at most 3 pairs in a request, not 4: lower `batch_rows`"),
    ],
)
def test_a_server_with_another_model_is_refused_at_once(
    change: Callable[[StandInServer], None], reason: str
) -> None:
    with StandInServer(CONTRACT) as server, StandInServer(CONTRACT) as right:
        change(server)
        with (
            pytest.raises(ContractError, match=f"Triton server {server.address}: {reason}"),
            scoring(right, server),
        ):
            pass
        assert server.calls == 0


def test_a_server_that_is_live_but_silent_about_its_model_is_given_up() -> None:
    with StandInServer(CONTRACT) as server:
        server.config_delay.clear()
        with (
            pytest.raises(ServerError, match=f"{server.address}: no answer within 1 s"),
            scoring(server, patience_s=0.5),
        ):
            pass


def test_servers_of_different_precision_are_refused() -> None:
    with StandInServer(CONTRACT) as cpu, StandInServer(CONTRACT) as gpu:
        gpu.precision = "fp16"
        with scoring(cpu) as scorer:
            assert scorer.precision == "int8"
        with scoring(gpu) as scorer:
            assert scorer.precision == "fp16"
        reason = "it computes in .*, another server in .*: an answer would depend on which server"
        with pytest.raises(ContractError, match=reason), scoring(cpu, gpu):
            pass


def test_closing_cancels_the_requests_in_flight_and_leaves_no_thread() -> None:
    with StandInServer(CONTRACT) as server:
        with scoring(server, in_flight=2) as scorer:
            server.delay.clear()
            answers = [scorer.submit(*batch(number)) for number in range(6)]
            wait_until(lambda: server.now == 2, "the server has no requests")
        assert all(answer.cancelled() for answer in answers)
        scorer.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "triton"]


def test_a_server_that_never_answers_leaves_no_thread_behind() -> None:
    with pytest.raises(
        AigidError,
        match=r"no Triton server has answered for 0\.5 s: 127\.0\.0\.1:9: .*check that this is the",
    ):
        TritonScorer(REPOSITORY, TritonConfig(("127.0.0.1:9",), patience_s=0.5), 4)
    assert not [thread for thread in threading.enumerate() if thread.name == "triton"]
