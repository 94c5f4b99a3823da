"""Near perceptual hashes: the same count as by comparing all pairs."""

import numpy as np
import pytest

from aigid.report.near import near_hashes


def brute_force(values: list[int]) -> int:
    return sum(any(0 < (one ^ other).bit_count() <= 3 for other in values) for one in values)


@pytest.mark.parametrize("seed", range(3))
def test_hashes_within_three_bits_are_near_wherever_the_bits_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = {int(value) for value in random.integers(0, 1 << 63, 300)}
    for value in sorted(values)[:100]:
        flipped = random.choice(64, random.integers(1, 7), replace=False)
        values.add(value ^ sum(1 << int(bit) for bit in flipped))
    found = near_hashes(np.array(sorted(values), np.uint64))
    assert 60 < brute_force(sorted(values)) == found.count < len(values)
    assert found.sampled == found.values == len(values)


def test_three_bits_are_near_and_four_are_not() -> None:
    zero, three, four = 0, 1 | 1 << 20 | 1 << 63, 1 << 5 | 1 << 21 | 1 << 38 | 1 << 55
    assert near_hashes(np.array([zero, three], np.uint64)).count == 2
    assert near_hashes(np.array([zero, four], np.uint64)).count == 0
    assert near_hashes(np.array([], np.uint64)).count == 0


def test_of_many_hashes_a_sample_is_looked_at() -> None:
    values = np.random.default_rng(0).integers(0, 1 << 61, 30_000).astype(np.uint64)
    pairs = np.unique(
        np.concatenate([values << np.uint64(2), (values << np.uint64(2)) | np.uint64(3)])
    )
    lonely = np.random.default_rng(1).integers(0, 1 << 63, 60_000).astype(np.uint64)
    found = near_hashes(np.unique(np.concatenate([pairs, lonely])))
    assert found.sampled == 20_000
    assert found.count == pytest.approx(60_000, rel=0.03)
