"""The scan of shards: the same rows whatever the timing, bounded work, and clean ends."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.manifests import CAPTIONS, HF_IMAGE, encoded_image, manifest_table
from support.scan_results import result_files

from aigid.answers import AnswerCache
from aigid.config import ScanConfig
from aigid.detector import Detector
from aigid.errors import AigidError, ServerError
from aigid.manifest import Manifest, open_manifest
from aigid.observe import ScanWatch
from aigid.pixels import Pixels
from aigid.progress import OnBatch, RowsDone
from aigid.progress_bar import SilentProgress
from aigid.prompts import TokenBatch
from aigid.results import ResultsFolder, open_results
from aigid.runners import run_local
from aigid.scan_job import make_scanner
from aigid.scorers import OnnxScorer, Scorer, Scores
from aigid.shard_scan import ShardScanner, scan_shards
from aigid.shards import Shard, plan_shards
from aigid.sources import ColumnChoice, Segment

Write = Callable[..., Path]
ROWS = 60


def ignore(done: RowsDone) -> None:
    """Progress that nobody watches."""


def unwatched() -> ScanWatch:
    return ScanWatch(SilentProgress())


class WatchedScorer:
    """The real scorer, with something done before each batch."""

    in_flight = 0

    def __init__(self, scorer: Scorer, before: Callable[[int], None]) -> None:
        self.contract, self.precision = scorer.contract, scorer.precision
        self.calls = 0
        self.most_at_once = 0
        self._scorer, self._before = scorer, before
        self._lock = threading.Lock()
        self._now = 0

    def score(self, images: Pixels, tokens: TokenBatch) -> Scores:
        with self._lock:
            call = self.calls
            self.calls += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            self._before(call)
            return self._scorer.score(images, tokens)
        finally:
            with self._lock:
                self._now -= 1

    def submit(self, images: Pixels, tokens: TokenBatch) -> "Future[Scores]":
        future: Future[Scores] = Future()
        future.set_result(self.score(images, tokens))
        return future

    def close(self) -> None:
        self._scorer.close()


class LaterScorer(WatchedScorer):
    """Scores in threads of its own, three batches at a time, as a server does."""

    in_flight = 3

    def __init__(self, scorer: Scorer, before: Callable[[int], None]) -> None:
        super().__init__(scorer, before)
        self._server = ThreadPoolExecutor(self.in_flight, "server")
        self.taken: list[Future[Scores]] = []

    def submit(self, images: Pixels, tokens: TokenBatch) -> "Future[Scores]":
        self.taken.append(self._server.submit(self.score, images, tokens))
        return self.taken[-1]

    def close(self) -> None:
        self._server.shutdown()


@dataclass(frozen=True)
class Case:
    """A scanner for a manifest of good and bad rows of every kind, and the table it gives."""

    scanner: ShardScanner
    table: pa.Table

    @property
    def manifest(self) -> Manifest:
        return self.scanner.manifest


@pytest.fixture(scope="module")
def case(tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    path = tmp_path_factory.mktemp("case") / "m.parquet"
    bad: dict[int, Any] = {
        5: None,
        6: {"bytes": b"no image", "path": None},
        33: {"bytes": b"", "path": None},
    }
    images = [bad.get(row, {"bytes": encoded_image(row), "path": None}) for row in range(ROWS)]
    prompts = [None if row == 7 else CAPTIONS[row % len(CAPTIONS)] for row in range(ROWS)]
    table = pa.table({"id": range(ROWS), "prompt": prompts, "image": pa.array(images, HF_IMAGE)})
    pq.write_table(table, path, row_group_size=17)
    config = ScanConfig((str(path),), "unused", keep=("id",), threads=2, batch_rows=8)
    scanner = make_scanner(
        config,
        tiny_repository,
        open_manifest([str(path)], config.columns),
        OnnxScorer(tiny_repository),
    )
    return Case(scanner, scanned(scanner, Shard(0, (Segment(scanner.manifest.files[0], 0, ROWS),))))


def scan_shard(
    scanner: ShardScanner, shard: Shard, pool: ThreadPoolExecutor, on_batch: OnBatch
) -> pa.Table:
    (found,) = scan_shards(scanner, [shard], pool, on_batch)
    assert found.shard == shard
    return found.table


def scanned(scanner: ShardScanner, shard: Shard, on_batch: OnBatch = ignore) -> pa.Table:
    with ThreadPoolExecutor(scanner.threads) as pool:
        return scan_shard(scanner, shard, pool, on_batch)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[ResultsFolder]:
    folder = open_results(str(tmp_path / "results"))
    with folder.open():
        yield folder


def watched(
    scanner: ShardScanner, before: Callable[[int], None], threads: int = 2
) -> tuple[ShardScanner, WatchedScorer]:
    scorer = WatchedScorer(scanner.scorer, before)
    return replace(scanner, scorer=scorer, threads=threads, batch_rows=4), scorer


def files_in(results: ResultsFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in result_files(Path(results.location.path))}


def scan_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("scan")]


@pytest.mark.filterwarnings("ignore::aigid.errors.ModelNoticeWarning")
def test_each_row_gets_the_answer_of_its_own_image_and_prompt(
    case: Case, tiny_repository: Path
) -> None:
    stored = pq.read_table(case.manifest.files[0].path).to_pylist()
    images = [(row["image"] or {"bytes": b""})["bytes"] for row in stored]
    expected = Detector.load(tiny_repository).detect(images, [row["prompt"] for row in stored])
    found = case.table.to_pylist()
    assert [row["id"] for row in found] == [row["row"] for row in found] == list(range(ROWS))
    assert [row["p_ai"] for row in found] == [detection.p_ai for detection in expected]
    assert [row["source"] for row in found] == [detection.source for detection in expected]
    assert {row["row"]: row["error"] for row in found if row["error"]} == {
        5: "empty",
        6: "undecodable",
        33: "empty",
    }
    assert len({row["p_ai"] for row in found}) > ROWS / 2, (
        "a model that answers the same to all would hide a mix-up"
    )


@settings(max_examples=30)
@given(st.data())
def test_any_rows_in_any_batches_on_any_threads_give_the_same_table(
    case: Case, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, ROWS - 1))
    stop = data.draw(st.integers(start + 1, ROWS))
    cut = data.draw(st.integers(start, stop))
    segments = tuple(
        Segment(case.manifest.files[0], a, b) for a, b in ((start, cut), (cut, stop)) if b > a
    )
    scanner = replace(
        case.scanner,
        batch_rows=data.draw(st.integers(1, 70), "batch_rows"),
        threads=data.draw(st.integers(1, 4), "threads"),
    )
    assert (
        scanned(scanner, Shard(0, segments)).to_pylist()
        == case.table.slice(start, stop - start).to_pylist()
    )


@pytest.mark.parametrize(
    "delay_s", [lambda call: 0.02 if call == 0 else 0, lambda call: 0.01 * (call % 3)]
)
def test_rows_stay_in_order_whatever_the_threads_timing(
    case: Case, delay_s: Callable[[int], float]
) -> None:
    scanner, _ = watched(case.scanner, lambda call: time.sleep(delay_s(call)), threads=4)
    assert scanned(scanner, Shard(0, (Segment(scanner.manifest.files[0], 0, ROWS),))).equals(
        case.table
    )


@pytest.fixture
def later(
    case: Case,
) -> Iterator[Callable[[Callable[[int], None]], tuple[ShardScanner, LaterScorer]]]:
    made = []

    def make(before: Callable[[int], None]) -> tuple[ShardScanner, LaterScorer]:
        made.append(LaterScorer(case.scanner.scorer, before))
        return replace(case.scanner, scorer=made[-1], threads=1), made[-1]

    yield make
    for scorer in made:
        scorer.close()


def test_a_scorer_that_answers_later_is_given_more_batches_meanwhile(
    case: Case, later: Any
) -> None:
    scanner, scorer = later(lambda call: time.sleep(0.05 * (call % 2)))
    assert scanned(scanner, Shard(0, (Segment(scanner.manifest.files[0], 0, ROWS),))).equals(
        case.table
    )
    assert scorer.most_at_once == scorer.in_flight


def test_no_more_batches_wait_than_a_scorer_takes_and_the_threads_prepare(
    case: Case, later: Any
) -> None:
    released = threading.Event()
    scanner, scorer = later(lambda call: released.wait(60))
    with ThreadPoolExecutor(1) as caller:
        table = caller.submit(
            scanned,
            replace(scanner, batch_rows=2),
            Shard(0, (Segment(scanner.manifest.files[0], 0, ROWS),)),
        )
        time.sleep(1)
        waiting = len(scorer.taken)
        released.set()
        assert table.result().equals(case.table)
    # Besides those in flight, the one thread prepares one. Both images of one batch are bad.
    assert scorer.in_flight <= waiting <= scorer.in_flight + 1
    assert len(scorer.taken) > 20


def test_the_next_shards_batches_follow_before_the_last_ones_are_answered(
    case: Case, later: Any
) -> None:
    scanner, scorer = later(lambda call: time.sleep(0.02))
    shards = list(plan_shards(case.manifest.files, 6))
    assert len(shards) == 10
    with ThreadPoolExecutor(1) as pool:
        found = list(scan_shards(replace(scanner, batch_rows=6), shards, pool, ignore))
    assert [one.shard for one in found] == shards
    assert pa.concat_tables([one.table for one in found]).equals(case.table)
    assert scorer.most_at_once == scorer.in_flight, "a shard alone has too few batches for that"


def test_after_closing_no_more_shards_are_scanned(case: Case) -> None:
    scanner, scorer = watched(case.scanner, lambda call: time.sleep(0.02), threads=1)
    with ThreadPoolExecutor(1) as pool:
        shards = scan_shards(scanner, list(plan_shards(case.manifest.files, 6)), pool, ignore)
        next(shards)
        shards.close()
        calls = scorer.calls
    assert scorer.calls <= calls + 1


def test_a_scorer_that_fails_later_ends_the_scan_of_the_shard(later: Any) -> None:
    def fail(call: int) -> None:
        if call == 1:
            raise ServerError("no server is left")

    scanner, _ = later(fail)
    with pytest.raises(ServerError, match="no server is left"):
        scanned(scanner, Shard(0, (Segment(scanner.manifest.files[0], 0, ROWS),)))
    assert scan_threads() == []


def test_a_shard_of_several_files_has_the_rows_of_each_under_its_name(
    case: Case, tiny_repository: Path, write_manifest: Write
) -> None:
    strict = manifest_table(9, seed=50).select(["Image", "Caption", "id"])
    strict = strict.cast(strict.schema.set(2, pa.field("id", pa.int64(), nullable=False)))
    paths = [
        str(write_manifest(strict, "a.parquet")),
        str(write_manifest(manifest_table(5, seed=70), "b.parquet")),
    ]
    manifest = open_manifest(paths, ColumnChoice(keep=("id",)))
    config = ScanConfig(tuple(paths), "unused")
    shard = Shard(0, (Segment(manifest.files[0], 4, 9), Segment(manifest.files[1], 0, 5)))
    rows = scanned(
        make_scanner(config, tiny_repository, manifest, OnnxScorer(tiny_repository)), shard
    ).to_pylist()
    assert [(row["manifest"], row["row"], row["id"]) for row in rows] == [
        *((paths[0], row, row) for row in range(4, 9)),
        *((paths[1], row, row) for row in range(5)),
    ]
    assert all(row["error"] is None for row in rows)


def test_rows_that_are_all_bad_need_no_scoring(case: Case) -> None:
    def fail(call: int) -> None:
        pytest.fail("there is nothing to score")

    scanner, scorer = watched(case.scanner, fail)
    rows = scanned(scanner, Shard(0, (Segment(scanner.manifest.files[0], 5, 7),))).to_pylist()
    assert [row["error"] for row in rows] == ["empty", "undecodable"]
    assert scorer.calls == 0


def test_every_row_and_error_is_reported_once(case: Case) -> None:
    reported: list[tuple[int, int]] = []
    scanned(
        case.scanner,
        Shard(0, (Segment(case.scanner.manifest.files[0], 0, ROWS),)),
        lambda done: reported.append((done.rows, done.failed)),
    )
    assert sum(rows for rows, _ in reported) == ROWS
    assert sum(errors for _, errors in reported) == 3
    assert all(0 < rows <= case.scanner.batch_rows for rows, _ in reported)


class CountingPool(ThreadPoolExecutor):
    """A thread pool that counts its tasks."""

    submitted = 0

    def submit(self, *task: Any, **options: Any) -> Future[Any]:
        self.submitted += 1
        return super().submit(*task, **options)


def test_batches_in_flight_are_bounded_while_threads_are_slow(case: Case) -> None:
    threads = 2
    held = threading.Event()
    scanner, scorer = watched(case.scanner, lambda call: held.wait(30) and None, threads)
    scanner = replace(scanner, batch_rows=1)
    most = 0
    done = 0

    def collected(batch: RowsDone) -> None:
        nonlocal most, done
        most = max(most, pool.submitted - done)
        done += batch.rows

    with CountingPool(threads) as pool, ThreadPoolExecutor(1) as other:
        shard = other.submit(
            scan_shard,
            scanner,
            Shard(0, (Segment(scanner.manifest.files[0], 0, ROWS),)),
            pool,
            collected,
        )
        deadline = time.monotonic() + 20
        while pool.submitted < 3 * threads:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(0.1)
        assert pool.submitted == 3 * threads, "it read on though no batch was done"
        held.set()
        assert shard.result(30).equals(case.table)
    assert most == 3 * threads
    assert pool.submitted == ROWS + 1, "the end of the shard goes through the pool, too"
    assert scorer.most_at_once == threads


def fail_at_the_third(call: int) -> None:
    if call == 2:
        raise AigidError("the scorer is gone")
    # Time for the scan to notice, before one more batch is taken from the queue.
    time.sleep(0.5 if call > 2 else 0)


def test_a_shard_that_fails_leaves_no_work_behind_in_a_pool_that_lives_on(case: Case) -> None:
    # One thread, so that batches are scored in the order in which they are waited for.
    scanner, scorer = watched(case.scanner, fail_at_the_third, threads=1)
    with ThreadPoolExecutor(1) as pool, pytest.raises(AigidError, match="the scorer is gone"):
        scan_shard(scanner, Shard(0, (Segment(scanner.manifest.files[0], 0, ROWS),)), pool, ignore)
    assert scorer.calls <= 4


def test_an_exception_in_a_thread_ends_the_scan_and_leaves_earlier_commits(
    case: Case, results: ResultsFolder
) -> None:
    shards = list(plan_shards(case.manifest.files, 17))
    assert len(shards) == 4
    run_local(case.scanner, shards[:2], results, unwatched())
    before = files_in(results)
    assert len(before) == 2

    scanner, scorer = watched(case.scanner, fail_at_the_third, threads=1)
    with pytest.raises(AigidError, match="the scorer is gone"):
        run_local(scanner, shards[2:], results, unwatched())
    assert files_in(results) == before
    assert scorer.calls <= 4, "it went on after the failure"
    assert scan_threads() == []


def test_a_shard_that_failed_is_scanned_again_to_the_same_bytes(
    case: Case, results: ResultsFolder
) -> None:
    shards = list(plan_shards(case.manifest.files, 17))
    run_local(case.scanner, shards, results, unwatched())
    whole = files_in(results)
    Path(results.location.path, "detections", "part-000002.parquet").unlink()
    scanner, _ = watched(case.scanner, lambda call: time.sleep(0.002 * (call % 2)))
    run_local(scanner, [shards[2]], results, unwatched())
    assert files_in(results) == whole


def test_ctrl_c_while_waiting_for_threads_ends_the_run_and_leaves_no_thread(
    case: Case, results: ResultsFolder
) -> None:
    shards = list(plan_shards(case.manifest.files, 17))

    interrupted_at: list[int] = []

    def interrupt_in_the_second_shard(call: int) -> None:
        if results.shard_name(0) in files_in(results):
            if not interrupted_at:
                interrupted_at.append(call)
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    scanner, scorer = watched(case.scanner, interrupt_in_the_second_shard)
    with pytest.raises(KeyboardInterrupt):
        run_local(scanner, shards, results, unwatched())
    assert scan_threads() == []
    # The batches of the second shard may be done when the first is committed.
    committed = sorted(files_in(results))
    assert committed == [results.shard_name(index) for index in range(len(committed))]
    assert 0 < len(committed) < len(shards)
    assert scorer.calls <= interrupted_at[0] + 1 + scanner.threads, (
        "it scored on after it was interrupted"
    )


def test_a_manifest_that_is_replaced_while_it_is_scanned_ends_the_scan_and_leaves_earlier_commits(
    tiny_repository: Path, write_manifest: Write, results: ResultsFolder
) -> None:
    path = write_manifest(100, row_group_size=10)
    manifest = open_manifest([str(path)])
    config = ScanConfig((str(path),), "unused", threads=1)
    scanner = make_scanner(config, tiny_repository, manifest, OnnxScorer(tiny_repository))
    shards = list(plan_shards(manifest.files, 10))

    class Replacing(SilentProgress):
        def advance(self, rows: int, errors: int) -> None:
            pq.write_table(manifest_table(100, seed=7), path, row_group_size=10)

    with pytest.raises(AigidError, match=f"{path}: has changed since the scan began"):
        run_local(scanner, shards, results, ScanWatch(Replacing()))
    # Some of the next shards had been read when the first was done.
    committed = sorted(files_in(results))
    assert committed == [results.shard_name(index) for index in range(len(committed))]
    assert 1 <= len(committed) < len(shards)


def test_a_model_that_answers_nonsense_is_never_committed(
    case: Case, results: ResultsFolder
) -> None:
    class NonsenseScorer(WatchedScorer):
        def score(self, images: Pixels, tokens: TokenBatch) -> Scores:
            scores = super().score(images, tokens)
            return Scores(np.full_like(scores.p_ai, np.nan), scores.p_source, scores.known_score)

    scanner = replace(case.scanner, scorer=NonsenseScorer(case.scanner.scorer, lambda call: None))
    with pytest.raises(
        AigidError, match="57 of 60 rows have neither a probability nor an error: not committed"
    ):
        run_local(
            scanner,
            [Shard(0, (Segment(scanner.manifest.files[0], 0, ROWS),))],
            results,
            unwatched(),
        )
    assert files_in(results) == {}


def test_a_duplicate_waits_for_a_later_batch_that_has_the_pair_first(case: Case) -> None:
    """The first batch is held until the second one, with the same pair, is being scored."""
    file = case.manifest.files[0]
    shard = Shard(0, (Segment(file, 0, 4), Segment(file, 0, 4), Segment(file, 0, 4)))
    plain = scanned(replace(case.scanner, batch_rows=1), shard)

    def pause(call: int) -> None:
        time.sleep(0.01 * (call % 3))

    for threads in (1, 3, 8):
        scanner, _ = watched(case.scanner, pause, threads=threads)
        answers = AnswerCache()
        found = scanned(replace(scanner, answers=answers, batch_rows=1), shard)
        assert found.equals(plain)


def test_a_duplicate_of_a_batch_that_fails_ends_the_scan_as_the_batch_does(case: Case) -> None:
    file = case.manifest.files[0]
    shard = Shard(0, (Segment(file, 0, 4), Segment(file, 0, 4)))

    def fail(call: int) -> None:
        raise ServerError("no server is left")

    scanner, _ = watched(case.scanner, fail, threads=3)
    answers = AnswerCache()
    scanner = replace(scanner, answers=answers, batch_rows=1)
    with pytest.raises(ServerError, match="no server is left"):
        scanned(scanner, shard)
    # The next scan of the process finds the answers itself.
    again = scanned(replace(scanner, scorer=case.scanner.scorer), shard)
    assert again.equals(scanned(case.scanner, shard))
