"""The plan of a scan: the manifest's shards, the units of work, commit and retry."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from aigid.sources import ManifestFile, Segment


@dataclass(frozen=True)
class Shard:
    """A run of consecutive manifest rows, as segments of one or more files in order."""

    index: int
    segments: tuple[Segment, ...]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(segment.rows for segment in self.segments)


@dataclass(frozen=True)
class PlanTotals:
    """The shards and rows of a plan, and those that are done."""

    shards: int
    rows: int
    done_shards: int
    done_rows: int

    @classmethod
    def of(cls, shards: Iterable[Shard], done: Container[int]) -> Self:
        """Return the totals of the shards; the indexes in `done` are of those that are done."""
        total_shards = total_rows = done_shards = done_rows = 0
        for shard in shards:
            total_shards, total_rows = total_shards + 1, total_rows + shard.rows
            if shard.index in done:
                done_shards, done_rows = done_shards + 1, done_rows + shard.rows
        return cls(total_shards, total_rows, done_shards, done_rows)


def plan_shards(
    files: Iterable[ManifestFile], shard_rows: int, limit: int | None = None
) -> Iterator[Shard]:
    """Cut the first `limit` rows of the manifest into shards of about `shard_rows` rows.

    The same files and numbers give the same plan. Small files and row groups share a shard. Shards
    end where a row group ends; only a row group of more than 1.5 times `shard_rows` rows is cut,
    into even pieces. So no shard has more than 1.75 times `shard_rows` rows.
    """
    pieces: list[Segment] = []
    index = rows = 0
    for piece in _pieces(files, shard_rows, limit):
        if pieces and rows + piece.rows / 2 > shard_rows:
            yield Shard(index, _joined(pieces))
            index, pieces, rows = index + 1, [], 0
        pieces.append(piece)
        rows += piece.rows
    if pieces:
        yield Shard(index, _joined(pieces))


def _pieces(files: Iterable[ManifestFile], shard_rows: int, limit: int | None) -> Iterator[Segment]:
    done = 0
    for file in files:
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
