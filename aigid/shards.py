"""The plan of a scan: the manifest cut into shards, the unit of work, of commit and of retry."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aigid.manifest import ManifestFile, Segment


@dataclass(frozen=True)
class Shard:
    """A run of consecutive manifest rows: segments of one or several files, in order."""

    index: int
    segments: tuple[Segment, ...]

    @property
    def rows(self) -> int:
        """How many rows the shard has."""
        return sum(segment.rows for segment in self.segments)


def plan_shards(files: Sequence[ManifestFile], shard_rows: int, limit: int | None = None) -> list[Shard]:
    """Cut the first `limit` rows of the manifest into shards of about `shard_rows` rows.

    A pure function: the same files and numbers give the same plan. Small files and row groups are packed together;
    shards end at row groups, and only a row group of more than 1.5 times `shard_rows` is cut, evenly. So no shard has
    more than 1.75 times `shard_rows` rows.
    """
    shards: list[Shard] = []
    pieces: list[Segment] = []
    rows = 0
    for piece in _pieces(files, shard_rows, limit):
        if pieces and rows + piece.rows / 2 > shard_rows:
            shards.append(Shard(len(shards), _joined(pieces)))
            pieces, rows = [], 0
        pieces.append(piece)
        rows += piece.rows
    if pieces:
        shards.append(Shard(len(shards), _joined(pieces)))
    return shards


def _pieces(files: Sequence[ManifestFile], shard_rows: int, limit: int | None) -> Iterator[Segment]:
    left = sum(file.rows for file in files) if limit is None else limit
    for number, file in enumerate(files):
        start = 0
        for group in file.row_groups:
            rows = min(group, left)
            yield from _cut(number, start, rows, shard_rows)
            start += group
            left -= rows


def _cut(file: int, start: int, rows: int, shard_rows: int) -> Iterator[Segment]:
    parts = 1 if rows <= 1.5 * shard_rows else -(-rows // shard_rows)
    for part in range(parts):
        begin, end = start + rows * part // parts, start + rows * (part + 1) // parts
        if end > begin:
            yield Segment(file, begin, end)


def _joined(pieces: list[Segment]) -> tuple[Segment, ...]:
    joined: list[Segment] = []
    for piece in pieces:
        if joined and joined[-1].file == piece.file and joined[-1].stop == piece.start:
            joined[-1] = Segment(piece.file, joined[-1].start, piece.stop)
        else:
            joined.append(piece)
    return tuple(joined)
