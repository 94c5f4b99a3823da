"""The measurement of a sample: it is scanned as a scan does it, on a clock for each stage."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import ParamSpec, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aigid.fetch import FetchPolicy, ImageReference, image_references, is_remote
from aigid.manifest import Manifest, image_root, read_segment
from aigid.pixels import Pixels
from aigid.planning.scan_plan import SampleError, SampleFigures
from aigid.prompts import TokenBatch, pad_to_bucket
from aigid.records import printable
from aigid.scorers import Scorer, Scores
from aigid.shard_scan import ShardScanner, scan_shards
from aigid.shards import Shard
from aigid.sources import Segment

_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Measured:
    """The figures of a sample, its result rows, and the seconds of one thread for a row."""

    figures: SampleFigures
    table: pa.Table
    seconds_per_row: float


@dataclass
class _Clock:
    """Seconds that threads have spent in calls, and of these the seconds of CPU time."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def timed(self, function: Callable[_Parameters, _Answer]) -> Callable[_Parameters, _Answer]:
        """Return the function with its calls on this clock."""

        def call(*arguments: _Parameters.args, **named: _Parameters.kwargs) -> _Answer:
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
                with self._lock:
                    self.wall_s, self.cpu_s = self.wall_s + wall, self.cpu_s + cpu

        return call


class _TimedPool(ThreadPoolExecutor):
    """A pool of threads whose calls are on a clock."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="plan")
        self.clock = _Clock()

    def submit(
        self,
        fn: Callable[_Parameters, _Answer],
        /,
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> Future[_Answer]:
        return super().submit(self.clock.timed(fn), *args, **kwargs)


class _TimedScorer:
    """A scorer on a clock."""

    def __init__(self, scorer: Scorer) -> None:
        self.contract, self.precision = scorer.contract, scorer.precision
        self.in_flight, self.clock = scorer.in_flight, _Clock()
        self.submit: Callable[[Pixels, TokenBatch], Future[Scores]]
        self.submit = self.clock.timed(scorer.submit)
        self.score, self.close = self.clock.timed(scorer.score), scorer.close


def measure(scanner: ShardScanner, segments: list[Segment]) -> Measured:
    """Scan the segments as one shard, and return what that shows. Nothing is written.

    Raises AigidError where the scan would stop.
    """
    forms, image_bytes = _forms(scanner.manifest, scanner.policy, segments)
    rows = sum(segment.rows for segment in segments)
    # So that all threads have work, however many they are.
    batch_rows = min(scanner.batch_rows, max(1, rows // (2 * scanner.threads)))
    _warm_up(scanner)
    scorer = _TimedScorer(scanner.scorer)
    timed = replace(scanner, scorer=scorer, batch_rows=batch_rows)
    with _TimedPool(scanner.threads) as pool:
        started = time.perf_counter()
        shards = [Shard(0, tuple(segments))]
        (scanned,) = scan_shards(timed, shards, pool, lambda done: None)
        seconds = time.perf_counter() - started
    figures = replace(
        _figures(scanned.table, pool.clock, scorer.clock),
        seconds=seconds,
        images=forms,
        image_bytes=image_bytes,
        on_servers=scorer.in_flight > 0,
    )
    # Servers and networks work for all threads at once, so that what counts is the whole.
    waits = figures.on_servers or forms.keys() & {"object store", "web"}
    per_thread = seconds * scanner.threads if waits else pool.clock.wall_s
    return Measured(figures, scanned.table, per_thread / rows)


def _warm_up(scanner: ShardScanner) -> None:
    """Score one pair, since the first one of a model takes longer."""
    ids = scanner.prompts.token_ids([None])
    tokens = pad_to_bucket(ids, scanner.prompts.bucket(len(ids[0])))
    shape = scanner.scorer.contract.image.shape
    scanner.scorer.score(np.zeros((1, *shape), np.uint8), tokens)


def _figures(table: pa.Table, busy: _Clock, scoring: _Clock) -> SampleFigures:
    rows, errors = len(table), tuple(_errors(table))
    scored = rows - sum(error.rows for error in errors)
    return SampleFigures(
        rows=rows,
        scored=scored,
        seconds=0,
        images={},
        image_bytes=None,
        errors=errors,
        decode_ms=1000 * (busy.cpu_s - scoring.cpu_s) / rows if scored else None,
        on_servers=False,
        score_ms=1000 * scoring.cpu_s / scored if scored else None,
        wait_ms=1000 * (busy.wall_s - busy.cpu_s) / rows if scored else None,
    )


def _errors(table: pa.Table) -> Iterable[SampleError]:
    """Yield the errors of result rows by code, the most frequent first."""
    failed = table.filter(pc.is_valid(table.column("error")))
    codes = failed.column("error").to_pylist()
    counts = Counter(codes)
    for code, rows in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        first = failed.slice(codes.index(code), 1).to_pylist()[0]
        image = first["image"]
        yield SampleError(
            code,
            rows,
            first["manifest"],
            first["row"],
            None if image is None else printable(image),
            first["error_detail"],
        )


def _forms(
    manifest: Manifest, policy: FetchPolicy, segments: list[Segment]
) -> tuple[dict[str, int], float | None]:
    """Return the numbers of rows by where their images are, and the mean bytes of those inline."""
    forms: Counter[str] = Counter()
    inline = 0
    for segment in segments:
        root = image_root(segment.file)
        for rows in read_segment(manifest, segment):
            for image in image_references(rows.column(manifest.columns.image)):
                forms[_form(image if root is None else replace(image, root=root), policy)] += 1
                inline += len(image.data or b"")
    mean = inline / forms["manifest"] if forms["manifest"] else None
    return dict(forms.most_common()), mean


def _form(image: ImageReference, policy: FetchPolicy) -> str:
    if image.data is not None:
        return "manifest"
    if not image.path:
        return "none"
    if not is_remote(image, policy):
        return "file"
    return "web" if image.path.lower().startswith(("http://", "https://")) else "object store"
