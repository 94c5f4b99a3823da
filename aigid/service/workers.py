"""Threads that decode and score pairs, whichever requests they come from."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from aigid.detection import DecisionRule, Detection
from aigid.evidence import Finding
from aigid.pixels import Pixels
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.scorers import Scorer, Scores
from aigid.service.metrics import ServiceMetrics

# How long a decoded pair may wait for others while there are images to decode. A batch of base-size
# encoders takes 100 ms or more.
LONGEST_WAIT_S = 0.02
BATCH_ROWS = 32


@dataclass(frozen=True)
class DecodedPair:
    """A pair that can be scored: uint8 pixels [*ImageSpec.shape], token ids, and findings.

    `findings` is None where no evidence is wanted.
    """

    pixels: Pixels
    token_ids: list[int]
    findings: tuple[Finding, ...] | None


Decode = Callable[[], DecodedPair | Detection]
"""Decodes a pair; what cannot be scored is answered at once."""


@dataclass(frozen=True)
class _Waiting:
    """A decoded pair that waits for a batch, and where its answer goes."""

    pair: DecodedPair
    answer: Future[Detection]
    since: float = field(default_factory=time.monotonic)


class PairWorkers:
    """Answers pairs with a few threads, which decode and score.

    Pairs of all requests share batches: while a scorer is busy, decoded pairs gather. A pair on its
    own is scored at once. A batch has prompts of one token bucket.
    """

    def __init__(
        self,
        scorer: Scorer,
        prompts: PromptEncoder,
        rule: DecisionRule,
        threads: int,
        metrics: ServiceMetrics,
    ) -> None:
        """Start the threads."""
        self._scorer, self._prompts, self._rule, self._metrics = scorer, prompts, rule, metrics
        self._changed = threading.Condition()
        self._encoded: deque[tuple[Decode, Future[Detection]]] = deque()
        self._decoded: dict[int, deque[_Waiting]] = {}
        # Batches that may be with the scorer at a time.
        self._places = scorer.in_flight or threads
        # More would only need memory.
        self._most_decoded = BATCH_ROWS * (self._places + 1)
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"pairs-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, decode: Decode) -> Future[Detection]:
        """Have a pair decoded and scored. A future that is cancelled in time costs nothing."""
        answer: Future[Detection] = Future()
        with self._changed:
            self._encoded.append((decode, answer))
            self._changed.notify()
        return answer

    @property
    def waiting(self) -> int:
        """The pairs that are not with the scorer yet."""
        with self._changed:
            return len(self._encoded) + self._count_decoded()

    def close(self) -> None:
        """End the threads once what they work on is done; pairs that wait are cancelled."""
        with self._changed:
            self._is_closed = True
            for _, answer in self._encoded:
                answer.cancel()
            self._encoded.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                job = self._next_job()
                while job is None and not self._is_closed:
                    self._changed.wait()
                    job = self._next_job()
            if job is None:
                return
            job()

    def _next_job(self) -> Callable[[], None] | None:
        """Return what to do next: score a batch that is due, or decode, or score what there is."""
        oldest = min((queue[0].since for queue in self._decoded.values()), default=None)
        if oldest is not None and self._places:
            is_full = any(len(queue) >= BATCH_ROWS for queue in self._decoded.values())
            is_due = time.monotonic() - oldest >= LONGEST_WAIT_S
            if is_full or is_due or not self._encoded:
                return self._score_job()
        if self._encoded and self._count_decoded() < self._most_decoded:
            decode, answer = self._encoded.popleft()
            return lambda: self._decode(decode, answer)
        return None

    def _count_decoded(self) -> int:
        return sum(map(len, self._decoded.values()))

    def _score_job(self) -> Callable[[], None]:
        """Take the bucket with the oldest pair."""
        bucket = min(self._decoded, key=lambda one: self._decoded[one][0].since)
        queue = self._decoded[bucket]
        batch = [queue.popleft() for _ in range(min(BATCH_ROWS, len(queue)))]
        if not queue:
            del self._decoded[bucket]
        self._places -= 1
        return lambda: self._score(bucket, batch)

    def _decode(self, decode: Decode, answer: Future[Detection]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        began = time.perf_counter()
        try:
            pair = decode()
        except BaseException as error:  # noqa: BLE001 - it is the answer's
            answer.set_exception(error)
            return
        self._metrics.stage("decode", time.perf_counter() - began)
        if isinstance(pair, Detection):
            answer.set_result(pair)
            return
        bucket = self._prompts.bucket(len(pair.token_ids))
        with self._changed:
            self._decoded.setdefault(bucket, deque()).append(_Waiting(pair, answer))
            self._changed.notify()

    def _score(self, bucket: int, batch: list[_Waiting]) -> None:
        began = time.perf_counter()

        def done(scores: Future[Scores]) -> None:
            self._metrics.batch(len(batch), time.perf_counter() - began)
            with self._changed:
                self._places += 1
                self._changed.notify()
            self._answer(batch, scores)

        try:
            images = np.stack([one.pair.pixels for one in batch])
            tokens = pad_to_bucket([one.pair.token_ids for one in batch], bucket)
            scores = self._scorer.submit(images, tokens)
        except BaseException as error:  # noqa: BLE001 - it is the answers'
            scores = Future()
            scores.set_exception(error)
        scores.add_done_callback(done)

    def _answer(self, batch: list[_Waiting], scores: Future[Scores]) -> None:
        try:
            detections = self._rule.detections(scores.result())
        except BaseException as error:  # noqa: BLE001 - it is the answers'
            for one in batch:
                one.answer.set_exception(error)
            return
        for one, detection in zip(batch, detections, strict=True):
            findings = one.pair.findings
            one.answer.set_result(
                detection if findings is None else detection.with_findings(findings)
            )
