"""The scan of shards: read, fetch, decode, score, decide. Every runner calls this."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa

from aigid.answers import AnswerCache, BatchAnswers, ImageHash, Noted, PerceptualHash, RowAnswer
from aigid.batching import (
    WAITING_BYTES,
    BatchQueue,
    PairBatch,
    PairInput,
    batch_by_bucket,
    decode_batch,
)
from aigid.bounded_map import BoundedWeight, map_in_pool
from aigid.decisions import VerdictRule
from aigid.errors import AigidError
from aigid.evidence import EvidenceReader, RowEvidence
from aigid.fetch import (
    CircuitBreaker,
    FetchAhead,
    FetchPolicy,
    ImageReference,
    StartedFetch,
    fetch_image,
    image_references,
    is_remote,
)
from aigid.manifest import Manifest, image_root, read_segment
from aigid.pixels import Pixels, decode_image
from aigid.progress import OnBatch, RowsDone, StageFigures
from aigid.prompts import PromptEncoder, TokenBatch
from aigid.records import RowError
from aigid.results import (
    OptionalColumns,
    ScannedShard,
    ScoredBy,
    ShardAnswers,
    ShardRetry,
    image_column,
    refuse_changed_rows,
    result_table,
)
from aigid.scorers import Scorer, Scoring
from aigid.shards import Shard
from aigid.sources import Kind, ManifestFile, caption_errors, texts
from aigid.storage import Location

# Batches that wait for a free thread: enough to keep all busy, and few enough that their encoded
# images need little memory.
_WAITING_PER_THREAD = 2

_Fetched = dict[int, StartedFetch]
_Fetch = Callable[[PairInput[ImageReference]], bytes]


@dataclass(frozen=True)
class ShardScanner:
    """All that the scan of a shard needs, made once for each process.

    With `answers`, rows with the same image bytes and prompt are scored once. With `hashes`,
    results have the hashes of images. With `retry`, shards that have a result file are retried.
    """

    manifest: Manifest
    policy: FetchPolicy
    prompts: PromptEncoder
    scorer: Scorer
    threshold: float
    verdicts: VerdictRule
    batch_rows: int
    threads: int
    evidence: EvidenceReader | None = None
    circuit_breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    answers: AnswerCache | None = None
    hashes: PerceptualHash | None = None
    retry: ShardRetry | None = None

    @property
    def scored_by(self) -> ScoredBy:
        """The model, the threshold and the rule of verdicts, for the metadata of result files."""
        contract = self.scorer.contract
        return ScoredBy(
            model=contract.name,
            fingerprint=contract.fingerprint,
            precision=self.scorer.precision,
            labels=contract.labels,
            threshold=self.threshold,
            verdicts=self.verdicts,
            open_set=contract.open_set,
        )

    @property
    def optional(self) -> OptionalColumns:
        """The optional columns that the scan makes."""
        return OptionalColumns(evidence=self.evidence is not None, hash=self.hashes is not None)


def scan_shards(
    scanner: ShardScanner,
    shards: Iterable[Shard],
    pool: ThreadPoolExecutor,
    on_batch: OnBatch,
    queue: BatchQueue | None = None,
) -> Generator[ScannedShard, None, None]:
    """Yield each shard with its result rows, in the manifest's order.

    The threads of `pool` each fetch and decode one batch at a time and hand it to the scorer, which
    computes the answer there and then or has a server do it. A few more batches wait. The batches
    of the next shard follow at once, so that no thread is idle at the end of a shard. Close the
    generator if you do not exhaust it. `queue` counts the batches while they are under way.

    Raises AigidError where a shard cannot be read, after those before it.
    """
    return _ShardScan(scanner, pool, on_batch, queue or BatchQueue()).tables(shards)


@dataclass(frozen=True)
class _Work:
    """A batch of a shard, with the images that are on their way; or, without one, its end."""

    answers: ShardAnswers
    batch: PairBatch[ImageReference] | None = None
    fetched: _Fetched = field(default_factory=dict)


class _Images:
    """The images of a batch: their pixels one by one, and what else is found out of them."""

    def __init__(self, scanner: ShardScanner, fetch: _Fetch) -> None:
        self._scanner, self._fetch = scanner, fetch
        self._since = 0.0
        self.seconds = dict.fromkeys(("fetch_s", "evidence_s", "decode_s"), 0.0)
        self.bytes = 0
        self.evidence: dict[int, RowEvidence] = {}
        self.sha256: dict[int, bytes] = {}
        self.perceptual: dict[int, int] = {}
        self.shared = BatchAnswers(scanner.answers) if scanner.answers is not None else None

    def decode(self, pair: PairInput[ImageReference]) -> Pixels | None:
        """Return the pixels of a pair's image; None where another row has the same pair."""
        scanner, position = self._scanner, pair.position
        self._since = time.perf_counter()
        try:
            data = self._fetch(pair)
        finally:
            self._lap("fetch_s")
        self.bytes += len(data)
        if self.shared is not None:
            self.sha256[position] = sha256 = hashlib.sha256(data).digest()
            has_other = self.shared.has_other(position, sha256, pair.token_ids)
            self._lap("decode_s")
            if has_other:
                return None
        if scanner.evidence is not None:
            self.evidence[position] = RowEvidence.of(scanner.evidence.read(data))
            self._lap("evidence_s")
        try:
            pixels = decode_image(data, scanner.scorer.contract.image, scanner.policy.limits)
            if scanner.hashes is not None:
                self.perceptual[position] = scanner.hashes.of(pixels)
            return pixels
        finally:
            self._lap("decode_s")

    def noted(self, position: int) -> Noted:
        """Return what was found out of the image at a position."""
        return Noted(self.perceptual.get(position), self.evidence.get(position))

    def _lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self._since
        self._since = now


@dataclass(frozen=True)
class _Submitted:
    """A batch that was decoded and given to the scorer.

    It has the positions of the decoded images, but not their pixels, which need much memory.
    """

    answers: ShardAnswers
    positions: list[int]
    scoring: Scoring | None
    errors: dict[int, RowError]
    images: _Images


@dataclass(frozen=True)
class _ShardEnd:
    """The end of a shard, after its last batch."""

    answers: ShardAnswers


class _ShardScan:
    """One pass of a scanner over shards."""

    def __init__(
        self, scanner: ShardScanner, pool: ThreadPoolExecutor, on_batch: OnBatch, queue: BatchQueue
    ) -> None:
        self._scanner, self._pool, self._on_batch, self._queue = scanner, pool, on_batch, queue
        self._fetching = FetchAhead(scanner.policy, scanner.circuit_breaker)
        self._read_error: AigidError | None = None
        if scanner.answers is not None:
            scanner.answers.drop_pending()

    def tables(self, shards: Iterable[Shard]) -> Generator[ScannedShard, None, None]:
        scanner, threads = self._scanner, self._scanner.threads
        # Besides those that the threads work on: batches wait for a thread as encoded images, or
        # for a server as pixels, which need more memory.
        limit = threads + (scanner.scorer.in_flight or threads * _WAITING_PER_THREAD)
        held = BoundedWeight(_held_bytes, (threads + 1) * WAITING_BYTES)
        submitted = map_in_pool(self._pool, self._submit, self._work(shards), limit, held)
        try:
            with closing(submitted):
                for one in submitted:
                    if isinstance(one, _ShardEnd):
                        yield self._finished(one.answers)
                    else:
                        self._collect(one)
        finally:
            self._fetching.close()
        if self._read_error is not None:
            raise self._read_error

    def _work(self, shards: Iterable[Shard]) -> Iterator[_Work]:
        """Yield the batches of all shards, and after the last batch of each shard its end.

        A shard that cannot be read ends the stream; the shards before it are finished first.
        """
        scanner = self._scanner
        try:
            for shard in shards:
                answers = self._begin(shard)
                pairs = self._pairs(answers)
                for batch in batch_by_bucket(pairs, scanner.prompts.bucket, scanner.batch_rows):
                    self._queue.add()
                    yield _Work(answers, batch, self._start_fetching(batch))
                yield _Work(answers)
        except AigidError as error:
            self._read_error = error

    def _begin(self, shard: Shard) -> ShardAnswers:
        """Return the answers of a shard so far: those that are not retried, or none."""
        retry, labels = self._scanner.retry, len(self._scanner.scorer.contract.labels)
        answers = ShardAnswers.of(shard, labels, self._scanner.optional)
        if retry is not None:
            retry.fill(answers)
        return answers

    def _pairs(self, answers: ShardAnswers) -> Iterator[PairInput[ImageReference]]:
        """Yield the pairs of a shard, and note the columns that its result rows take over."""
        manifest = self._scanner.manifest
        for segment in answers.shard.segments:
            root = image_root(segment.file)
            answers.begin_segment()
            for rows in read_segment(manifest, segment):
                images, shown = _images(rows.column(manifest.columns.image), segment.file, root)
                for row, error in caption_errors(rows).items():
                    images[row] = replace(images[row], error=error)
                first, chosen = answers.rows, answers.to_scan(len(rows))
                answers.add_rows(shown, manifest.kept(rows))
                for row, ids in zip(chosen, self._token_ids(rows, chosen), strict=True):
                    yield PairInput(first + row, images[row], ids, len(images[row].data or b""))

    def _token_ids(self, rows: pa.RecordBatch, chosen: Sequence[int]) -> list[list[int]]:
        column = self._scanner.manifest.columns.prompt
        prompts = texts(rows.column(column)) if column else [None] * len(rows)
        return self._scanner.prompts.token_ids([prompts[row] for row in chosen])

    def _start_fetching(self, batch: PairBatch[ImageReference]) -> _Fetched:
        """Have the images that come over the network fetched before a thread needs them."""
        return {
            pair.position: self._fetching.start(pair.image)
            for pair in batch.pairs
            if is_remote(pair.image, self._scanner.policy)
        }

    def _submit(self, work: _Work) -> _Submitted | _ShardEnd:
        """Decode a batch and give it to the scorer; this runs in the threads of the pool."""
        if work.batch is None:
            return _ShardEnd(work.answers)
        self._queue.begin()
        images = _Images(self._scanner, partial(self._fetch, work.fetched))
        try:
            decoded = decode_batch(work.batch, images.decode)
            scoring = self._score(*decoded.tensors) if decoded.tensors else None
        except BaseException as error:
            if images.shared is not None:
                images.shared.fail(error)
            raise
        if images.shared is not None:
            scores = scoring.scores if scoring else None
            images.shared.settle(decoded.positions, scores, decoded.errors, images.noted)
        return _Submitted(work.answers, decoded.positions, scoring, decoded.errors, images)

    def _fetch(self, fetched: _Fetched, pair: PairInput[ImageReference]) -> bytes:
        if self._fetching.is_closed:
            raise CancelledError
        fetch = fetched.pop(pair.position, None)
        if fetch is None:
            return fetch_image(pair.image, self._scanner.policy)
        return self._fetching.take(fetch)

    def _score(self, images: Pixels, tokens: TokenBatch) -> Scoring:
        return Scoring(time.perf_counter(), self._scanner.scorer.submit(images, tokens))

    def _finished(self, answers: ShardAnswers) -> ScannedShard:
        table = result_table(self._scanner.manifest, answers, self._scanner.scored_by)
        refuse_changed_rows(answers, table)
        # Kept columns may be large: only the table holds them from now on.
        answers.kept.clear()
        seconds = time.perf_counter() - answers.began
        return ScannedShard(answers.shard, table, answers.done, seconds)

    def _collect(self, batch: _Submitted) -> None:
        """Wait for the answers of a batch, and note them."""
        answers, images, score_s = batch.answers, batch.images, 0.0
        if batch.scoring is not None:
            scores = batch.scoring.scores.result()
            answers.p_ai[batch.positions] = scores.p_ai
            answers.p_source[batch.positions] = scores.p_source
            answers.known_score[batch.positions] = scores.known_score
            score_s = batch.scoring.seconds
        answers.errors.update(batch.errors)
        others = self._collect_shared(batch)
        answers.evidence.update(images.evidence)
        duplicates = None if images.shared is None else len(others)
        errors = [*batch.errors.values(), *(one.error for one in others.values() if one.error)]
        done = RowsDone(
            rows=len(batch.positions) + len(batch.errors) + len(others),
            errors=Counter(error.code for error in errors),
            image_bytes=images.bytes,
            stages=StageFigures(**images.seconds, score_s=score_s, duplicates=duplicates),
        )
        answers.done += done
        self._queue.end()
        self._on_batch(done)

    def _collect_shared(self, batch: _Submitted) -> dict[int, RowAnswer]:
        """Note hashes and the answers that other rows have, and return these answers."""
        answers, images = batch.answers, batch.images
        if images.shared is None:
            return {}
        images.shared.keep()
        others = images.shared.others()
        for position, answer in others.items():
            if answer.noted.perceptual_hash is not None:
                images.perceptual[position] = answer.noted.perceptual_hash
            if answer.noted.evidence is not None:
                images.evidence[position] = answer.noted.evidence
            if answer.error is not None:
                answers.errors[position] = answer.error
                continue
            answers.p_ai[position] = answer.p_ai
            answers.p_source[position] = answer.p_source
            answers.known_score[position] = answer.known_score
        if self._scanner.hashes is not None:
            for position, sha256 in images.sha256.items():
                answers.hashes[position] = ImageHash(sha256, images.perceptual.get(position))
        return others


def _held_bytes(work: _Work) -> int:
    return work.batch.held_bytes if work.batch else 0


def _images(
    column: pa.Array, file: ManifestFile, root: Location | None
) -> tuple[list[ImageReference], pa.Array]:
    """Return the references in an image column, and how results show them."""
    images = image_references(column)
    if file.kind is Kind.TAR:
        # Their names say which they are, but no file of such a name is meant.
        shown = image_column([ImageReference(None, image.path) for image in images])
        return [ImageReference(image.data, None) for image in images], shown
    if root is not None:
        images = [replace(image, root=root) for image in images]
    return images, image_column(images)
