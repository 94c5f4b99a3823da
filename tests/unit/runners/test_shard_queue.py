"""The order of shards, the pauses before retries, and when a shard is given up."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from aigid.runners.shard_queue import ShardFailure, ShardQueue
from aigid.shards import Shard
from aigid.sources import ManifestFile, Segment

FILES = [ManifestFile(f"{name}.parquet", 10, (100,), "") for name in "ab"]


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def shards(count: int) -> list[Shard]:
    return [Shard(index, (Segment(FILES[0], index, index + 1),)) for index in range(count)]


def test_shards_come_in_the_order_of_the_plan_and_are_taken_from_it_one_by_one() -> None:
    taken = []

    def plan() -> Iterator[Shard]:
        for shard in shards(100):
            taken.append(shard.index)
            yield shard

    queue = ShardQueue(plan(), 3)
    assert [shard.index for _ in range(5) if (shard := queue.take(alone=False))] == [0, 1, 2, 3, 4]
    assert len(taken) == 6


def test_a_failed_shard_comes_again_after_growing_pauses_and_only_alone() -> None:
    clock = Clock()
    queue = ShardQueue(iter(shards(1)), 4, clock)
    shard = queue.take(alone=True)
    assert shard is not None
    pauses = []
    for _ in range(3):
        assert queue.failed(shard, "lost") is None
        assert queue
        begun = clock.now
        while queue.take(alone=True) is None:
            assert queue.take(alone=False) is None
            clock.now += 0.5
        pauses.append(clock.now - begun)
    assert pauses == [2, 4, 8]
    assert not queue
    assert queue.failed(shard, "lost again") == ShardFailure(shard, "lost again")
    assert not queue


def test_shards_in_their_pause_do_not_delay_others() -> None:
    clock = Clock()
    queue = ShardQueue(iter(shards(4)), 2, clock)
    first = queue.take(alone=True)
    assert first is not None
    queue.failed(first, "lost")
    assert [shard.index for _ in range(2) if (shard := queue.take(alone=True))] == [1, 2]
    clock.now = 100
    assert queue.take(alone=True) == first
    assert queue.tried(first) == 1


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(0, 12))
def test_every_shard_is_done_or_given_up_whatever_fails(
    fates: list[bool], attempts: int, count: int
) -> None:
    clock = Clock()
    queue, fate = ShardQueue(iter(shards(count)), attempts, clock), iter(fates)
    done, given_up, tries = [], [], 0
    while queue:
        shard = queue.take(alone=True)
        clock.now += 1
        if shard is None:
            continue
        tries += 1
        if next(fate, True):
            done.append(shard.index)
        elif failure := queue.failed(shard, "why"):
            given_up.append(failure.shard.index)
    assert sorted(done + given_up) == list(range(count))
    assert tries <= count * attempts


def test_a_failure_names_the_missing_rows() -> None:
    one = Shard(7, (Segment(FILES[0], 10, 20),))
    two = Shard(8, (Segment(FILES[0], 10, 100), Segment(FILES[1], 0, 5)))
    assert str(ShardFailure(one, "gone")) == "shard 7 (row 10 of a.parquet to row 19): gone"
    assert (
        str(ShardFailure(two, "gone"))
        == "shard 8 (row 10 of a.parquet to row 4 of b.parquet): gone"
    )
