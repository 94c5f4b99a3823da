"""Pairs grouped into batches of one token bucket, and the decoding of a batch."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigid.batching import PairBatch, PairInput, batch_by_bucket, decode_batch
from aigid.pixels import Pixels
from aigid.records import ErrorCode, RowError, RowFailure

LENGTHS = st.lists(st.integers(1, 128), max_size=80)


def pair(position: int, length: int = 3) -> PairInput[str]:
    return PairInput(position, f"{position}.png", [7] * length)


def bucket_of(length: int) -> int:
    return next(bucket for bucket in (16, 32, 64, 128) if length <= bucket)


def batches_of(lengths: list[int], batch_rows: int) -> list[PairBatch[str]]:
    pairs = (pair(position, length) for position, length in enumerate(lengths))
    return list(batch_by_bucket(pairs, bucket_of, batch_rows))


def positions(batch: PairBatch[str]) -> list[int]:
    return [row.position for row in batch.pairs]


@given(LENGTHS, st.integers(1, 12))
def test_every_pair_comes_out_once_unchanged_in_a_batch_of_its_bucket(
    lengths: list[int], batch_rows: int
) -> None:
    batches = batches_of(lengths, batch_rows)
    found = {row.position: (row, batch.bucket) for batch in batches for row in batch.pairs}
    assert sum(len(batch.pairs) for batch in batches) == len(lengths)
    assert found == {
        position: (pair(position, length), bucket_of(length))
        for position, length in enumerate(lengths)
    }


@given(LENGTHS, st.integers(1, 12))
def test_a_batch_is_full_unless_it_is_the_last_of_its_bucket(
    lengths: list[int], batch_rows: int
) -> None:
    batches = batches_of(lengths, batch_rows)
    for bucket in {batch.bucket for batch in batches}:
        sizes = [len(batch.pairs) for batch in batches if batch.bucket == bucket]
        assert sizes[:-1] == [batch_rows] * (len(sizes) - 1)
        assert 1 <= sizes[-1] <= batch_rows


@given(LENGTHS, st.integers(1, 12))
def test_within_a_bucket_pairs_keep_their_order(lengths: list[int], batch_rows: int) -> None:
    batches = batches_of(lengths, batch_rows)
    for bucket in {batch.bucket for batch in batches}:
        found = [row for batch in batches if batch.bucket == bucket for row in positions(batch)]
        assert found == [row for row, length in enumerate(lengths) if bucket_of(length) == bucket]


def test_a_batch_comes_out_with_the_pair_that_completes_it() -> None:
    taken = count()
    lengths = [3, 20, 3, 3]
    pairs = (pair(next(taken), length) for length in lengths)
    batches = batch_by_bucket(pairs, bucket_of, 2)
    assert next(batches) == PairBatch(16, (pair(0), pair(2)))
    assert next(taken) == 3, "it read on before it gave a full batch away"


def test_incomplete_batches_begin_with_the_shortest_prompts() -> None:
    batches = batches_of([100, 20, 3], 2)
    assert [(batch.bucket, positions(batch)) for batch in batches] == [
        (16, [2]),
        (32, [1]),
        (128, [0]),
    ]


def decode(row: PairInput[str]) -> Pixels:
    """Pixels that tell the position; every third image cannot be read."""
    if row.position % 3 == 2:
        raise RowFailure(ErrorCode.MISSING, row.image)
    return np.full((2, 2, 3), row.position, np.uint8)


def test_a_decoded_batch_has_tensors_of_the_decoded_images_and_the_others_errors() -> None:
    batch = PairBatch(16, (pair(1, 2), pair(2, 16), pair(3, 5)))
    decoded = decode_batch(batch, decode)
    assert decoded.positions == [1, 3]
    assert decoded.errors == {2: RowError(ErrorCode.MISSING, "2.png")}
    assert decoded.tensors is not None
    images, tokens = decoded.tensors
    assert images.tolist() == [decode(pair(1)).tolist(), decode(pair(3)).tolist()]
    assert tokens.input_ids.tolist() == [[7] * 2 + [0] * 14, [7] * 5 + [0] * 11]
    assert tokens.attention_mask.sum(axis=1).tolist() == [2, 5]


def test_a_batch_of_which_nothing_can_be_decoded_has_no_tensors() -> None:
    decoded = decode_batch(PairBatch(16, (pair(2), pair(5))), decode)
    assert (decoded.positions, decoded.tensors) == ([], None)
    assert decoded.errors.keys() == {2, 5}


def test_an_error_that_is_not_a_rows_ends_the_decoding() -> None:
    def fail(row: PairInput[str]) -> Pixels:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        decode_batch(PairBatch(16, (pair(0),)), fail)


def sized(sizes: list[int], length: int = 3) -> Iterator[PairInput[str]]:
    for position, size in enumerate(sizes):
        yield PairInput(position, f"{position}.png", [7] * length, size)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 128)), max_size=60))
def test_images_that_wait_for_a_full_batch_have_a_bounded_size(rows: list[tuple[int, int]]) -> None:
    pairs = [PairInput(row, "", [7] * length, size) for row, (size, length) in enumerate(rows)]
    taken: list[PairInput[str]] = []

    def noted() -> Iterator[PairInput[str]]:
        for one in pairs:
            taken.append(one)
            yield one

    given_out: set[int] = set()
    for batch in batch_by_bucket(noted(), bucket_of, 8, waiting_bytes=50):
        # The pair that was taken last is not among those that wait.
        waiting = [one.held_bytes for one in taken[:-1] if one.position not in given_out]
        assert sum(waiting) <= 50
        given_out |= set(positions(batch))
        assert batch.held_bytes <= 50
    assert given_out == set(range(len(rows)))


def test_a_larger_image_is_a_batch_of_its_own() -> None:
    batches = batch_by_bucket(sized([10, 90, 10, 10]), bucket_of, 8, waiting_bytes=50)
    assert [positions(batch) for batch in batches] == [[0], [1], [2, 3]]


def test_the_bucket_with_most_bytes_makes_room() -> None:
    mixed = [
        PairInput(0, "", [7] * 3, 20),
        PairInput(1, "", [7] * 20, 25),
        PairInput(2, "", [7] * 3, 20),
    ]
    batches = batch_by_bucket(mixed, bucket_of, 8, waiting_bytes=50)
    assert [positions(batch) for batch in batches] == [[1], [0, 2]]


@given(LENGTHS, st.integers(1, 12))
def test_images_below_the_bound_get_the_batches_that_they_would_get_without_it(
    lengths: list[int], batch_rows: int
) -> None:
    pairs = [pair(position, length) for position, length in enumerate(lengths)]
    with_sizes = [replace(one, held_bytes=200_000) for one in pairs]
    found = [positions(batch) for batch in batch_by_bucket(with_sizes, bucket_of, batch_rows)]
    assert found == [positions(batch) for batch in batch_by_bucket(pairs, bucket_of, batch_rows)]
