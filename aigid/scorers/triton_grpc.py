"""The scorer that sends batches to Triton servers by gRPC, with a bound on requests in flight."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from aigid.contract import load_contract
from aigid.errors import ContractError
from aigid.pixels import Pixels
from aigid.prompts import TokenBatch
from aigid.scorers.scorer import Scores
from aigid.scorers.tensors import TENSORS_MODEL
from aigid.scorers.triton_client import TritonClient
from aigid.scorers.triton_config import TritonConfig
from aigid.scorers.triton_model import served_precision
from aigid.scorers.triton_pool import TritonPool

Result = TypeVar("Result")


class TritonScorer:
    """Scores batches on servers of a repository's model; reads only the repository's contract."""

    def __init__(
        self,
        repository: Path,
        config: TritonConfig,
        batch_rows: int,
        on_message: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Connect; check that the servers have this model and take `batch_rows` pairs a request.

        `on_message` gets a line when a server is lost or back. Raises ContractError if a server has
        another model, and ServerError if no server answers in time.
        """
        self.contract = load_contract(repository)
        self.in_flight = config.in_flight * len(config.addresses)
        self.precision = ""
        self._batch_rows = batch_rows
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton", daemon=True)
        self._thread.start()
        try:
            self._pool = self._start(self._open(config, on_message)).result()
        except BaseException:
            self._end_loop()
            raise

    def submit(self, images: Pixels, tokens: TokenBatch) -> "Future[Scores]":
        """Start to score N pairs: images uint8 [N, *ImageSpec.shape] and their prompts' tokens.

        The future raises ServerError if no server gives the answer.
        """
        inputs = [
            _input("image", images, "UINT8"),
            _input("input_ids", tokens.input_ids, "INT32"),
            _input("attention_mask", tokens.attention_mask, "INT32"),
        ]
        return self._start(self._ask(inputs))

    def score(self, images: Pixels, tokens: TokenBatch) -> Scores:
        """Score N pairs as `submit` does, and wait for the answer."""
        return self.submit(images, tokens).result()

    def check_now(self) -> None:
        """Check all servers at once, as after one of them was started again."""
        self._loop.call_soon_threadsafe(self._pool.check_now)

    def close(self) -> None:
        """Cancel the requests in flight and close the connections."""
        self._end_loop(self._pool)

    async def _open(self, config: TritonConfig, on_message: Callable[[str], None]) -> TritonPool:
        pool = TritonPool(config, TENSORS_MODEL, self._check, on_message)
        try:
            await pool.open()
        except BaseException:
            await pool.close()
            raise
        return pool

    async def _check(self, client: TritonClient) -> None:
        precision = await served_precision(client, self.contract, self._batch_rows)
        if self.precision not in ("", precision):
            raise ContractError(
                f"it computes in {precision}, another server in {self.precision}: an answer would "
                "depend on which server gives it; name servers of one precision"
            )
        self.precision = precision

    async def _ask(self, inputs: list[triton.InferInput]) -> Scores:
        answer = await self._pool.infer(inputs)
        p_ai, known_score = (answer.as_numpy(name)[:, 0] for name in ("p_ai", "known_score"))
        return Scores(p_ai, answer.as_numpy("p_source"), known_score)

    def _start(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _end_loop(self, pool: TritonPool | None = None) -> None:
        if not self._loop.is_closed():
            self._start(_cancel_all(pool)).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _cancel_all(pool: TritonPool | None) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if pool:
        await pool.close()


def _input(name: str, value: npt.NDArray[np.generic], data_type: str) -> triton.InferInput:
    tensor = triton.InferInput(name, list(value.shape), data_type)
    tensor.set_data_from_numpy(value)
    return tensor
