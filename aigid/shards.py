"""The plan of a scan: the manifest's shards, the units of work, commit and retry."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Self

from aigid.sources import ManifestFile, Segment

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


def plan_shards(
    files: Iterable[ManifestFile], shard_rows: int, limit: int | None = None
) -> Iterator[Shard]:
    """Cut the first `limit` rows of the manifest into shards of about `shard_rows` rows.

    The same files and numbers give the same plan. Small files and row groups share a shard. Shards
    end where a row group ends; only a row group of more than 1.5 times `shard_rows` rows is cut,
    into even pieces. So no shard has more than 1.75 times `shard_rows` rows. A tar whose rows are
    not known is never cut, and counts by its bytes: 26 KiB as a row.
    """
    pieces: list[Segment] = []
    index = rows = 0
    for piece in _pieces(files, shard_rows, limit):
        weight = _weight(piece, shard_rows)
        if pieces and rows + weight / 2 > shard_rows:
            yield Shard(index, _joined(pieces))
            index, pieces, rows = index + 1, [], 0
        pieces.append(piece)
        rows += weight
    if pieces:
        yield Shard(index, _joined(pieces))


def _weight(piece: Segment, shard_rows: int) -> int:
    """Return the rows of a piece, or what its bytes count for."""
    if piece.stop is not None:
        return piece.rows
    return -(-piece.file.size_bytes // _ROW_BYTES)


def _pieces(files: Iterable[ManifestFile], shard_rows: int, limit: int | None) -> Iterator[Segment]:
    done = 0
    for file in files:
        if not file.has_known_rows:
            yield Segment(file, 0, None)
        start = 0
        for group in file.row_groups:
            rows = group if limit is None else min(group, limit - done)
            yield from _cut(file, start, rows, shard_rows)
            start += group
            done += rows


def _cut(file: ManifestFile, start: int, rows: int, shard_rows: int) -> Iterator[Segment]:
    parts = 1 if rows <= 1.5 * shard_rows else -(-rows // shard_rows)
    for part in range(parts):
        begin, end = start + rows * part // parts, start + rows * (part + 1) // parts
        if end > begin:
            yield Segment(file, begin, end)


def _joined(pieces: list[Segment]) -> tuple[Segment, ...]:
    joined: list[Segment] = []
    for piece in pieces:
        if joined and joined[-1].file is piece.file and joined[-1].stop == piece.start:
            joined[-1] = Segment(piece.file, joined[-1].start, piece.stop)
        else:
            joined.append(piece)
    return tuple(joined)
