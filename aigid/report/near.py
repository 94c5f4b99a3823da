"""Perceptual hashes that are nearly the same: their images look alike."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST_BITS = 3
"""Hashes that differ in at most so many of 64 bits are near."""

# Hashes that differ in MOST_BITS bits are the same in one of MOST_BITS + 1 bands at least.
_BANDS = [np.uint64(16 * band) for band in range(MOST_BITS + 1)]
_SAMPLE, _SEED = 20_000, 16
_CHUNK = 256
# Of hashes that are the same in a band; images of one colour are many.
_MOST_CANDIDATES = 4096
_BITS = np.array([value.bit_count() for value in range(1 << 16)], np.uint8)

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class NearHashes:
    """Different hashes that have another one near them; `sampled` of `values` were looked at.

    `count` is an estimate where these are not all.
    """

    values: int
    sampled: int
    count: int


def near_hashes(values: Hashes) -> NearHashes:
    """Count the hashes that have another one near them; `values` has each once."""
    queries = values
    if len(values) > _SAMPLE:
        queries = np.random.default_rng(_SEED).choice(values, _SAMPLE, replace=False)
    found = np.zeros(len(queries), bool)
    for shift in _BANDS:
        bands = _band(values, shift)
        order = np.argsort(bands, kind="stable")
        bands, ordered = bands[order], values[order]
        for start in range(0, len(queries), _CHUNK):
            part = slice(start, start + _CHUNK)
            for place in _places_near(queries[part], _band(queries[part], shift), bands, ordered):
                found[start + place] = True
    share = found.sum() / len(queries) if len(queries) else 0.0
    return NearHashes(len(values), len(queries), round(float(share) * len(values)))


def _places_near(
    queries: Hashes, wanted: npt.NDArray[np.uint16], bands: npt.NDArray[np.uint16], values: Hashes
) -> Iterator[int]:
    """Yield the places of queries that a value with the same band is near to."""
    starts = np.searchsorted(bands, wanted)
    stops = np.searchsorted(bands, wanted, side="right")
    counts = np.minimum(stops - starts, _MOST_CANDIDATES)
    owners = np.repeat(np.arange(len(queries)), counts)
    first = np.repeat(starts - np.cumsum(counts) + counts, counts)
    candidates = values[first + np.arange(counts.sum())]
    differing = _differing_bits(queries[owners], candidates)
    is_near = (differing > 0) & (differing <= MOST_BITS)
    yield from np.unique(owners[is_near]).tolist()


def _band(values: Hashes, shift: np.uint64) -> npt.NDArray[np.uint16]:
    return (values >> shift).astype(np.uint16)


def _differing_bits(some: Hashes, others: Hashes) -> npt.NDArray[np.int64]:
    parts = np.ascontiguousarray(some ^ others).view(np.uint16).reshape(-1, 4)
    return np.asarray(_BITS[parts].sum(axis=1, dtype=np.int64))
