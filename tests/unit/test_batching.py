"""Rows grouped into batches of one token bucket."""

from hypothesis import given, settings
from hypothesis import strategies as st

from aigid.batching import Batcher, PairBatch, PairInput
from aigid.fetch import ImageReference

BUCKETS = st.lists(st.sampled_from([16, 32, 64, 128]), max_size=80)


def pair(position: int) -> PairInput:
    return PairInput(position, ImageReference(None, f"{position}.png"), [101, position, 102])


def batches_of(buckets: list[int], batch_rows: int) -> list[PairBatch]:
    batcher = Batcher(batch_rows)
    found = [batcher.add(bucket, pair(position)) for position, bucket in enumerate(buckets)]
    return [batch for batch in found if batch] + list(batcher.flush())


def positions(batch: PairBatch) -> list[int]:
    return [row.position for row in batch.pairs]


@settings(deadline=None)
@given(BUCKETS, st.integers(1, 12))
def test_every_row_comes_out_once_unchanged_in_a_batch_of_its_bucket(
    buckets: list[int], batch_rows: int
) -> None:
    rows = [(row, batch.bucket) for batch in batches_of(buckets, batch_rows) for row in batch.pairs]
    assert sorted(rows, key=lambda found: found[0].position) == [
        (pair(n), bucket) for n, bucket in enumerate(buckets)
    ]


@settings(deadline=None)
@given(BUCKETS, st.integers(1, 12))
def test_a_batch_is_full_unless_it_is_the_last_of_its_bucket(
    buckets: list[int], batch_rows: int
) -> None:
    batches = batches_of(buckets, batch_rows)
    for bucket in set(buckets):
        sizes = [len(batch.pairs) for batch in batches if batch.bucket == bucket]
        assert sizes[:-1] == [batch_rows] * (len(sizes) - 1)
        assert 1 <= sizes[-1] <= batch_rows


@settings(deadline=None)
@given(BUCKETS, st.integers(1, 12))
def test_within_a_bucket_rows_keep_their_order(buckets: list[int], batch_rows: int) -> None:
    batches = batches_of(buckets, batch_rows)
    for bucket in set(buckets):
        expected = [position for position, its_bucket in enumerate(buckets) if its_bucket == bucket]
        assert [
            position for batch in batches if batch.bucket == bucket for position in positions(batch)
        ] == expected


@settings(deadline=None)
@given(BUCKETS, st.integers(1, 12), st.integers(0, 80))
def test_batches_depend_on_the_rows_alone(buckets: list[int], batch_rows: int, other: int) -> None:
    # Another batcher at work in between, as other threads' are, changes nothing.
    batcher, neighbour = Batcher(batch_rows), Batcher(batch_rows)
    found = []
    for position, bucket in enumerate(buckets):
        neighbour.add(bucket, pair(position + other))
        found.append(batcher.add(bucket, pair(position)))
    assert [batch for batch in found if batch] + list(batcher.flush()) == batches_of(
        buckets, batch_rows
    )


def test_a_batch_comes_out_with_the_row_that_completes_it() -> None:
    batcher = Batcher(2)
    assert batcher.add(16, pair(0)) is None
    assert batcher.add(32, pair(1)) is None
    assert batcher.add(16, pair(2)) == PairBatch(16, (pair(0), pair(2)))
    assert batcher.add(16, pair(3)) is None
    assert list(batcher.flush()) == [PairBatch(16, (pair(3),)), PairBatch(32, (pair(1),))]


def test_what_was_flushed_does_not_come_again() -> None:
    batcher = Batcher(3)
    batcher.add(16, pair(0))
    assert [positions(batch) for batch in batcher.flush()] == [[0]]
    assert list(batcher.flush()) == []
    assert batcher.add(16, pair(1)) is None
    assert [positions(batch) for batch in batcher.flush()] == [[1]]
