"""Which rows of each file of a manifest are written, read from the results as a stream."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aigid.bounded_map import bounded_map
from aigid.filtering.conditions import FilterConfig, Mask
from aigid.results import ResultsFolder, shard_runs
from aigid.shards import Shard
from aigid.sources import Kind, ManifestFile

_READING_THREADS = 4


@dataclass
class FilterTotals:
    """What a filter did with the rows of the results.

    `written` were written, `failed` have an error, and `failed_written` have one and were written.
    """

    rows: int = 0
    written: int = 0
    failed: int = 0
    failed_written: int = 0

    def add(self, written: Mask, failed: Mask) -> None:
        """Count some rows."""
        self.rows += len(written)
        self.written += int(written.sum())
        self.failed += int(failed.sum())
        self.failed_written += int((written & failed).sum())


class RowMask:
    """Which of a file's next rows are written. Rows that were not scanned are not."""

    def __init__(self, parts: Iterable[Mask]) -> None:
        self._parts, self._waiting = iter(parts), np.zeros(0, np.bool_)
        self.written = 0
        """The rows so far that are written."""

    def take(self, rows: int) -> Mask:
        """Return the mask of the next rows."""
        while len(self._waiting) < rows:
            part = next(self._parts, None)
            if part is None:
                part = np.zeros(rows - len(self._waiting), np.bool_)
            self._waiting = np.concatenate([self._waiting, part])
        found, self._waiting = self._waiting[:rows], self._waiting[rows:]
        self.written += int(found.sum())
        return found


def masks_of_files(
    config: FilterConfig, results: ResultsFolder, shards: Iterable[Shard], totals: FilterTotals
) -> Iterator[tuple[list[ManifestFile], RowMask]]:
    """Yield each file of the manifest, and which of its rows are written; adds to `totals`.

    The runs of images of a folder come together. Take a file's rows before the next file's. Raises
    ResultsError where a result file is damaged.
    """
    runs = _runs(config, results, shards, totals)
    for _, group in groupby(runs, key=lambda run: run[0].path):
        found = iter(group)
        first, mask = next(found)
        if first.kind is Kind.IMAGES:
            # The masks of a folder are held: a byte for each image.
            parts = [(first, mask), *found]
            files = {file.first_row: file for file, _ in parts}
            yield list(files.values()), RowMask(part for _, part in parts)
        else:
            yield [first], RowMask(chain([mask], (part for _, part in found)))


def _runs(
    config: FilterConfig, results: ResultsFolder, shards: Iterable[Shard], totals: FilterTotals
) -> Iterator[tuple[ManifestFile, Mask]]:
    """Yield runs of rows: their file, and which of them are written."""

    def read(shard: Shard) -> tuple[Shard, pa.Table]:
        # Only the results tell how many rows a tar has.
        names = [] if shard.has_known_rows else ["manifest"]
        return shard, results.read(shard, [*names, *config.columns])

    for shard, table in bounded_map(read, shards, _READING_THREADS):
        mask = config.mask(table)
        totals.add(mask, np.asarray(pc.is_valid(table.column("error"))))
        names = None
        if not shard.has_known_rows:
            names = table.column("manifest").cast(pa.string()).combine_chunks()
        position = 0
        for segment, rows in shard_runs(shard, names):
            yield segment.file, mask[position : position + rows]
            position += rows
