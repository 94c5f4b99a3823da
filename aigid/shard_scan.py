"""The scan of one shard: read, fetch, decode, encode, score, decide. Every way to run a scan calls this one function."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from aigid.batching import Batcher, PairBatch, PairInput
from aigid.fetch import FetchPolicy, fetch_image, image_references
from aigid.manifest import Manifest, read_segment, texts
from aigid.pixels import decode_image
from aigid.prompts import PromptEncoder, pad_to_bucket
from aigid.records import SOURCES, RowError, RowFailure
from aigid.results import result_table
from aigid.scorers import Scorer, Scores
from aigid.shards import Shard

# Batches that wait for a free worker: enough that none idles, few enough that encoded images stay small in memory.
_WAITING_PER_WORKER = 2

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
    workers: int


@dataclass
class _Answers:
    """The answers for a shard's rows as they come in, by position in the shard."""

    p_ai: np.ndarray
    p_source: np.ndarray
    errors: dict[int, RowError] = field(default_factory=dict)


@dataclass(frozen=True)
class _BatchAnswer:
    positions: list[int]
    scores: Future[Scores] | None
    errors: dict[int, RowError]


def scan_shard(scanner: ShardScanner, shard: Shard, pool: ThreadPoolExecutor, on_batch: OnBatch) -> pa.Table:
    """The result rows of a shard, in the manifest's order.

    The workers of `pool` each fetch and decode one batch at a time and hand it to the scorer, which computes it there and
    then, or has a server do it; at most a few batches wait. Batches depend on the shard's rows alone, never on timing.
    """
    shape = (shard.rows, len(SOURCES))
    answers = _Answers(np.full(shard.rows, np.nan, np.float32), np.full(shape, np.nan, np.float32))
    kept: list[pa.RecordBatch] = []
    running: deque[Future[_BatchAnswer]] = deque()
    most = scanner.workers * (1 + _WAITING_PER_WORKER) + scanner.scorer.in_flight
    try:
        for batch in _batches(scanner, shard, kept):
            if len(running) >= most:
                _collect(running.popleft(), answers, on_batch)
            running.append(pool.submit(_submit_batch, scanner, batch))
        while running:
            _collect(running.popleft(), answers, on_batch)
    finally:
        for future in running:
            future.cancel()
    table = pa.Table.from_batches(kept, schema=scanner.manifest.keep_schema)
    scores = Scores(answers.p_ai, answers.p_source)
    return result_table(scanner.manifest, shard, table, scores, answers.errors, scanner.threshold)


def _batches(scanner: ShardScanner, shard: Shard, kept: list[pa.RecordBatch]) -> Iterator[PairBatch]:
    columns, batcher, position = scanner.manifest.columns, Batcher(scanner.batch_rows), 0
    for segment in shard.segments:
        for rows in read_segment(scanner.manifest, segment):
            kept.append(scanner.manifest.kept(rows))
            images = image_references(rows.column(columns.image))
            prompts = texts(rows.column(columns.prompt)) if columns.prompt else [None] * len(rows)
            for image, token_ids in zip(images, scanner.prompts.token_ids(prompts), strict=True):
                full = batcher.add(scanner.prompts.bucket(len(token_ids)), PairInput(position, image, token_ids))
                position += 1
                if full:
                    yield full
    yield from batcher.flush()


def _submit_batch(scanner: ShardScanner, batch: PairBatch) -> _BatchAnswer:
    decoded, errors = {}, {}
    for pair in batch.pairs:
        try:
            data = fetch_image(pair.image, scanner.policy)
            decoded[pair.position] = decode_image(data, scanner.scorer.contract.image, scanner.policy.limits)
        except RowFailure as failure:
            errors[pair.position] = failure.error
    if not decoded:
        return _BatchAnswer([], None, errors)
    tokens = pad_to_bucket([pair.token_ids for pair in batch.pairs if pair.position in decoded], batch.bucket)
    return _BatchAnswer(list(decoded), scanner.scorer.submit(np.stack(list(decoded.values())), tokens), errors)


def _collect(future: Future[_BatchAnswer], answers: _Answers, on_batch: OnBatch) -> None:
    answer = future.result()
    if answer.scores is not None:
        scores = answer.scores.result()
        answers.p_ai[answer.positions] = scores.p_ai
        answers.p_source[answer.positions] = scores.p_source
    answers.errors.update(answer.errors)
    on_batch(len(answer.positions) + len(answer.errors), len(answer.errors))
