"""The scan of shards: read, fetch, decode, encode, score, decide. Every way to run a scan calls this."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pyarrow as pa

from aigid.batching import Batcher, PairBatch, PairInput
from aigid.errors import AigidError
from aigid.fetch import CircuitBreaker, FetchPolicy, fetch_image, image_references, is_remote
from aigid.manifest import Manifest, read_segment, texts
from aigid.pixels import decode_image
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.records import SOURCES, RowError, RowFailure
from aigid.results import result_table
from aigid.scorers import Scorer, Scores
from aigid.shards import Shard

# Images that are waited for at a time, from stores and the web: latency, not this machine, is what limits it.
_FETCH_THREADS = 64
# Batches that wait for a free worker: enough that none idles, few enough that encoded images stay small in memory.
_WAITING_PER_THREAD = 2

OnBatch = Callable[[int, int], None]
"""Told after each batch: rows done, of these with an error."""


@dataclass(frozen=True)
class ShardScanner:
    """All that the scan of a shard needs, made once for each process."""

    manifest: Manifest
    policy: FetchPolicy
    prompts: PromptEncoder
    scorer: Scorer
    threshold: float
    batch_rows: int
    threads: int
    outages: CircuitBreaker = field(default_factory=CircuitBreaker)


@dataclass
class _Answers:
    """What is known of a shard so far: kept columns, and the answers for its rows by position in the shard."""

    shard: Shard
    p_ai: np.ndarray
    p_source: np.ndarray
    kept: list[pa.RecordBatch] = field(default_factory=list)
    errors: dict[int, RowError] = field(default_factory=dict)

    @classmethod
    def of(cls, shard: Shard) -> Self:
        """Nothing yet."""
        shape = (shard.rows, len(SOURCES))
        return cls(
            shard, np.full(shard.rows, np.nan, np.float32), np.full(shape, np.nan, np.float32)
        )


@dataclass(frozen=True)
class _BatchAnswer:
    positions: list[int]
    scores: Future[Scores] | None
    errors: dict[int, RowError]


@dataclass(frozen=True)
class _Running:
    """A batch of a shard that is being worked on, or the shard's end."""

    answers: _Answers
    batch: Future[_BatchAnswer] | None


def scan_shards(
    scanner: ShardScanner, shards: Iterable[Shard], pool: ThreadPoolExecutor, on_batch: OnBatch
) -> Generator[tuple[Shard, pa.Table], None, None]:
    """Each shard with its result rows, in the manifest's order. Close the iterator where it is not exhausted.

    The workers of `pool` each fetch and decode one batch at a time and hand it to the scorer, which computes it there and
    then, or has a server do it; at most a few batches wait. The next shard's batches follow at once, so that nobody idles
    at the end of a shard. Batches depend on a shard's rows alone, never on timing.
    """
    running: deque[_Running] = deque()
    fetching = ThreadPoolExecutor(_FETCH_THREADS, thread_name_prefix="fetch")
    # Beside those that the workers are at: as bytes they wait for a worker, as pixels, which are large, for a server.
    most = scanner.threads + (scanner.scorer.in_flight or scanner.threads * _WAITING_PER_THREAD)
    failures: list[AigidError] = []
    try:
        for answers, batch in _work(scanner, shards, failures):
            while len(running) >= most:
                yield from _collect(running.popleft(), scanner, on_batch)
            running.append(
                _Running(answers, _start(scanner, batch, pool, fetching) if batch else None)
            )
        while running:
            yield from _collect(running.popleft(), scanner, on_batch)
    finally:
        for one in running:
            if one.batch is not None:
                one.batch.cancel()
        fetching.shutdown(wait=False, cancel_futures=True)
    for failure in failures:
        raise failure


def _work(
    scanner: ShardScanner, shards: Iterable[Shard], failures: list[AigidError]
) -> Iterator[tuple[_Answers, PairBatch | None]]:
    """The batches of all shards, each with where its answers go; behind the last of a shard comes None.

    Where a shard cannot be read they end, and `failures` has the reason: the shards before are finished all the same.
    """
    try:
        for shard in shards:
            answers = _Answers.of(shard)
            for batch in _batches(scanner, shard, answers.kept):
                yield answers, batch
            yield answers, None
    except AigidError as error:
        failures.append(error)


def _batches(
    scanner: ShardScanner, shard: Shard, kept: list[pa.RecordBatch]
) -> Iterator[PairBatch]:
    columns, batcher, position = scanner.manifest.columns, Batcher(scanner.batch_rows), 0
    for segment in shard.segments:
        for rows in read_segment(scanner.manifest, segment):
            kept.append(scanner.manifest.kept(rows))
            images = image_references(rows.column(columns.image))
            prompts = texts(rows.column(columns.prompt)) if columns.prompt else [None] * len(rows)
            for image, token_ids in zip(images, scanner.prompts.token_ids(prompts), strict=True):
                full = batcher.add(
                    scanner.prompts.bucket(len(token_ids)), PairInput(position, image, token_ids)
                )
                position += 1
                if full:
                    yield full
    yield from batcher.flush()


def _start(
    scanner: ShardScanner, batch: PairBatch, pool: ThreadPoolExecutor, fetching: ThreadPoolExecutor
) -> Future[_BatchAnswer]:
    """Have a batch worked on, and what of it is not on this machine fetched before a worker comes to it."""
    remote = (pair for pair in batch.pairs if is_remote(pair.image, scanner.policy))
    fetched = {pair.position: fetching.submit(_fetch_remote, scanner, pair) for pair in remote}
    return pool.submit(_submit_batch, scanner, batch, fetched)


def _fetch_remote(scanner: ShardScanner, pair: PairInput) -> bytes:
    with scanner.outages.watch():
        return fetch_image(pair.image, scanner.policy)


def _submit_batch(
    scanner: ShardScanner, batch: PairBatch, fetched: dict[int, Future[bytes]]
) -> _BatchAnswer:
    decoded, errors = {}, {}
    for pair in batch.pairs:
        try:
            waited = fetched.pop(pair.position, None)
            data = fetch_image(pair.image, scanner.policy) if waited is None else waited.result()
            decoded[pair.position] = decode_image(
                data, scanner.scorer.contract.image, scanner.policy.limits
            )
        except RowFailure as failure:
            errors[pair.position] = failure.error
    if not decoded:
        return _BatchAnswer([], None, errors)
    tokens = pad_to_bucket(
        [pair.token_ids for pair in batch.pairs if pair.position in decoded], batch.bucket
    )
    return _BatchAnswer(
        list(decoded), scanner.scorer.submit(np.stack(list(decoded.values())), tokens), errors
    )


def _collect(
    one: _Running, scanner: ShardScanner, on_batch: OnBatch
) -> Iterator[tuple[Shard, pa.Table]]:
    """Wait for a batch and note its answers; at the shard's end give the shard."""
    answers = one.answers
    if one.batch is None:
        kept = pa.Table.from_batches(answers.kept, schema=scanner.manifest.keep_schema)
        scores = Scores(answers.p_ai, answers.p_source)
        manifest, shard = scanner.manifest, answers.shard
        yield shard, result_table(manifest, shard, kept, scores, answers.errors, scanner.threshold)
        return
    batch = one.batch.result()
    if batch.scores is not None:
        scores = batch.scores.result()
        answers.p_ai[batch.positions] = scores.p_ai
        answers.p_source[batch.positions] = scores.p_source
    answers.errors.update(batch.errors)
    on_batch(len(batch.positions) + len(batch.errors), len(batch.errors))
