"""A loaded model that answers pairs of many requests at a time."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from aigid.contract import TOKENIZER_FILE, ModelContract
from aigid.cores import available_cores
from aigid.decisions import VerdictRule
from aigid.detection import DecisionRule, Detection
from aigid.errors import AigidError, ServerError
from aigid.evidence import Finding, read_evidence
from aigid.fetch import FetchPolicy, ImageReference, fetch_image
from aigid.pixels import DecodeLimits, decode_image
from aigid.prompts import PromptEncoder, pad_to_bucket, without_surrogates
from aigid.records import ErrorCode, RowFailure
from aigid.scorers import Scorer
from aigid.service.config import ServiceConfig
from aigid.service.metrics import ServiceMetrics
from aigid.service.pairs import Pair, Question
from aigid.service.workers import DecodedPair, PairWorkers

# Images that are fetched at a time, for all requests.
_FETCHES = 16
_WEB_SCHEMES = ("http://", "https://")
_LIMITS = DecodeLimits()


class Engine:
    """Answers pairs with a scorer, which it closes at its end."""

    def __init__(
        self, repository: Path, scorer: Scorer, config: ServiceConfig, metrics: ServiceMetrics
    ) -> None:
        """Start the threads. Raises ContractError where the model has no thresholds of the mode.

        `why_away` may be set to what tells why the scorer's server is away, None while it is not.
        """
        self.why_away: Callable[[], str | None] = lambda: None
        contract, threshold = scorer.contract, config.threshold
        self.rule = DecisionRule(
            contract, threshold, VerdictRule.of(config.mode, threshold, contract)
        )
        self._scorer, self._policy, self._metrics = scorer, config.fetch, metrics
        self._trust_anchors = config.trust_anchors
        self._prompts = PromptEncoder(repository / TOKENIZER_FILE, contract.prompt)
        threads = available_cores()
        self._workers = PairWorkers(scorer, self._prompts, self.rule, threads, metrics)
        self._fetching = ThreadPoolExecutor(_FETCHES, "fetch")
        # A probe that hangs must not keep pairs from being answered.
        self._probing = ThreadPoolExecutor(1, "probe")
        self._probe: Future[None] | None = None
        self._probe_lock = threading.Lock()
        metrics.watch("waiting_pairs", "Pairs not scored yet.", lambda: self._workers.waiting)

    @property
    def contract(self) -> ModelContract:
        """The model's contract."""
        return self.rule.contract

    @property
    def precision(self) -> str:
        """The precision that the encoders compute in."""
        return self._scorer.precision

    def close(self) -> None:
        """End the threads, and give up what is not answered."""
        self._fetching.shutdown(wait=False, cancel_futures=True)
        self._workers.close()
        self._scorer.close()
        self._probing.shutdown(wait=False, cancel_futures=True)

    async def answer(self, question: Question) -> list[Detection]:
        """Return the answers for the pairs of a request, in order.

        Raises ServerError where the scorer's server does not answer.
        """
        self._refuse_while_away()
        answers = [self._answer(pair, question.evidence) for pair in question.pairs]
        return list(await asyncio.gather(*answers))

    def _refuse_while_away(self) -> None:
        reason = self.why_away()
        if reason is not None:
            raise ServerError(f"the engine is started again: {reason}")

    async def probe(self, within_s: float) -> None:
        """Score a pair of our own. Raises ServerError where it gets no answer in time."""
        await asyncio.to_thread(self.probe_now, within_s)

    def probe_now(self, within_s: float) -> None:
        """Do as `probe` does, without an event loop."""
        with self._probe_lock:
            if self._probe is None or self._probe.done():
                self._probe = self._probing.submit(self._score_probe)
            probe = self._probe
        try:
            probe.result(within_s)
        except TimeoutError as error:
            raise ServerError(f"it answers no probe within {within_s:g} s") from error
        except (AigidError, CancelledError) as error:
            raise ServerError(f"it answers no probe: {error}") from error

    def _score_probe(self) -> None:
        ids = self._prompts.token_ids([None])
        tokens = pad_to_bucket(ids, self._prompts.bucket(len(ids[0])))
        pixels = np.zeros((1, *self.contract.image.shape), np.uint8)
        p_ai = self._scorer.score(pixels, tokens).p_ai
        if not (p_ai.shape == (1,) and 0 <= p_ai[0] <= 1):
            raise ServerError(f"its answer is {p_ai}")

    async def _answer(self, pair: Pair, evidence: bool) -> Detection:
        try:
            data = await self._content(pair.image)
        except RowFailure as failure:
            return Detection.failed(failure.error)
        decode = partial(self._decode, data, pair.prompt, evidence)
        return await asyncio.wrap_future(self._workers.submit(decode))

    async def _content(self, image: ImageReference) -> bytes:
        """Return the bytes of an image; what is not in the request is fetched, if it may be."""
        if image.path is None:
            return fetch_image(image, FetchPolicy(None))
        if self._policy is None:
            raise RowFailure(
                ErrorCode.FORBIDDEN,
                "this service fetches no URLs (it would with --allow-fetch): send the image itself",
            )
        # Paths of files, and buckets that this service's credentials open, are not a client's.
        if not image.path.lower().startswith(_WEB_SCHEMES):
            raise RowFailure(ErrorCode.FORBIDDEN, "only http:// and https:// URLs are fetched")
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._fetching, fetch_image, image, self._policy)
        finally:
            self._metrics.stage("fetch", time.perf_counter() - began)

    def _decode(self, data: bytes, prompt: str | None, evidence: bool) -> DecodedPair | Detection:
        """Return the tensors of a pair; this runs in the threads of the workers."""
        findings: tuple[Finding, ...] | None = None
        if evidence:
            findings = read_evidence(data, self._trust_anchors)
        try:
            pixels = decode_image(data, self.contract.image, _LIMITS)
        except RowFailure as failure:
            failed = Detection.failed(failure.error)
            return failed if findings is None else failed.with_findings(findings)
        text = without_surrogates(prompt or "")
        return DecodedPair(pixels, self._prompts.token_ids([text])[0], findings)
