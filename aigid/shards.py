"""The plan of a scan: the manifest's shards, the units of work, commit and retry."""

import math
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from operator import attrgetter
from typing import Self

from aigid.sources import ManifestFile, Segment

SHARD_KEPT_BYTES = 64 << 20
"""The bytes of kept columns from which a shard has fewer rows than it would have without them."""

# What a tar whose rows are not known counts for: one row for so many bytes. With the usual 10,000
# rows, a shard has 254 MiB of tars.
_ROW_BYTES = 26 << 10


@dataclass(frozen=True)
class Shard:
    """A run of consecutive manifest rows, as segments of one or more files in order."""

    index: int
    segments: tuple[Segment, ...]

    @property
    def rows(self) -> int:
        """The number of rows, as far as it is known."""
        return sum(segment.rows for segment in self.segments)

    @property
    def has_known_rows(self) -> bool:
        """Whether its number of rows is known before it is scanned."""
        return all(segment.stop is not None for segment in self.segments)


@dataclass(frozen=True)
class PlanTotals:
    """The shards and rows of a plan, and those that are done.

    `planned_rows` is None where the plan does not know the rows of tars. With `at_least`, some of
    these are not scanned yet, so there are more rows.
    """

    shards: int
    rows: int
    done_shards: int
    done_rows: int
    planned_rows: int | None
    at_least: bool = False

    @classmethod
    def of(
        cls,
        shards: Iterable[Shard],
        done: Container[int],
        rows_of: Callable[[Shard], int] = attrgetter("rows"),
    ) -> Self:
        """Return the totals of the shards; the indexes in `done` are of those that are done.

        `rows_of` counts the rows of a shard that is done, if the plan does not know them.
        """
        total_shards = total_rows = done_shards = done_rows = 0
        at_least, all_known = False, True
        for shard in shards:
            is_done, is_known = shard.index in done, shard.has_known_rows
            all_known &= is_known
            rows = rows_of(shard) if is_done and not is_known else shard.rows
            total_shards, total_rows = total_shards + 1, total_rows + rows
            at_least |= not (is_known or is_done)
            if is_done:
                done_shards, done_rows = done_shards + 1, done_rows + rows
        planned_rows = total_rows if all_known else None
        return cls(total_shards, total_rows, done_shards, done_rows, planned_rows, at_least)

    def without(self, shards: Collection[int], rows: int) -> Self:
        """Return the totals where so many rows of shards that were done are to be done again."""
        return replace(
            self, done_shards=self.done_shards - len(shards), done_rows=self.done_rows - rows
        )


def plan_shards(
    files: Iterable[ManifestFile], shard_rows: int, limit: int | None = None
) -> Iterator[Shard]:
    """Cut the first `limit` rows of the manifest into shards of about `shard_rows` rows.

    The same files and numbers give the same plan. Small files and row groups share a shard. Shards
    end where a row group ends; only a row group of more than 1.5 times `shard_rows` rows is cut,
    into even pieces. So no shard has more than 1.75 times `shard_rows` rows. Where kept columns
    are large, the same holds for their bytes: a shard has about SHARD_KEPT_BYTES of them. A tar
    whose rows are not known is never cut, and counts by its bytes: 26 KiB as a row.
    """
    pieces: list[Segment] = []
    index, rows, kept_bytes = 0, 0, 0.0
    for piece in _pieces(files, shard_rows, limit):
        weight = _weight(piece.segment)
        full = kept_bytes + piece.kept_bytes / 2 > SHARD_KEPT_BYTES
        if pieces and (full or rows + weight / 2 > shard_rows):
            yield Shard(index, _joined(pieces))
            index, pieces, rows, kept_bytes = index + 1, [], 0, 0.0
        pieces.append(piece.segment)
        rows += weight
        kept_bytes += piece.kept_bytes
    if pieces:
        yield Shard(index, _joined(pieces))


def _weight(piece: Segment) -> int:
    """Return the rows of a piece, or what its bytes count for."""
    if piece.stop is not None:
        return piece.rows
    return -(-piece.file.size_bytes // _ROW_BYTES)


@dataclass(frozen=True)
class _Piece:
    """Rows that stay together, and the bytes of their kept columns."""

    segment: Segment
    kept_bytes: float


def _pieces(files: Iterable[ManifestFile], shard_rows: int, limit: int | None) -> Iterator[_Piece]:
    done = 0
    for file in files:
        if not file.has_known_rows:
            yield _Piece(Segment(file, 0, None), 0)
        start = 0
        kept_bytes = file.kept_bytes or repeat(0, len(file.row_groups))
        for group, size in zip(file.row_groups, kept_bytes, strict=True):
            rows = group if limit is None else min(group, limit - done)
            if rows > 0:
                yield from _cut(Segment(file, start, start + rows), size / group, shard_rows)
            start += group
            done += rows


def _cut(segment: Segment, row_bytes: float, shard_rows: int) -> Iterator[_Piece]:
    rows, start = segment.rows, segment.start
    parts = max(_parts(rows, shard_rows), _parts(rows * row_bytes, SHARD_KEPT_BYTES))
    for part in range(parts):
        begin, end = start + rows * part // parts, start + rows * (part + 1) // parts
        if end > begin:
            yield _Piece(Segment(segment.file, begin, end), (end - begin) * row_bytes)


def _parts(size: float, wanted: int) -> int:
    return 1 if size <= 1.5 * wanted else math.ceil(size / wanted)


def _joined(pieces: list[Segment]) -> tuple[Segment, ...]:
    joined: list[Segment] = []
    for piece in pieces:
        if joined and joined[-1].file is piece.file and joined[-1].stop == piece.start:
            joined[-1] = Segment(piece.file, joined[-1].start, piece.stop)
        else:
            joined.append(piece)
    return tuple(joined)
