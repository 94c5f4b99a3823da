"""The rows of a sample, spread over a manifest. The same manifest gives the same rows."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from aigid.sources import ManifestFile, ManifestFiles, Segment, count_rows

# Runs of consecutive rows in a sample. More runs would see more files, and open more of them.
_RUNS = 8


def sample_segments(files: ManifestFiles, wanted: int, total: int | None) -> list[Segment]:
    """Return segments of at most `wanted` of the first `total` rows: first, last and between.

    Where `total` is None, the rows of tars are not known. The segments are then the first rows of
    files that are spread over the list of files. Raises AigidError where a tar cannot be read.
    """
    if total is None:
        return list(_first_rows_of_files(files, wanted))
    return list(_cut(files, list(_runs(total, wanted))))


def _runs(total: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield the start and stop of even runs over `total` rows; they never overlap."""
    if total <= wanted:
        yield 0, total
        return
    runs = min(_RUNS, wanted)
    rows = wanted // runs
    for run in range(runs):
        start = (total - rows) * run // max(1, runs - 1)
        yield start, start + rows


def _cut(files: Iterable[ManifestFile], runs: list[tuple[int, int]]) -> Iterator[Segment]:
    """Yield the parts of files that the runs of rows cover. Runs are in order."""
    first, pending = 0, runs
    for file in files:
        end = first + file.rows
        while pending and pending[0][0] < end:
            start, stop = pending[0]
            yield Segment(file, start - first, min(stop, end) - first)
            pending = [(end, stop), *pending[1:]] if stop > end else pending[1:]
        if not pending:
            return
        first = end


def _first_rows_of_files(files: ManifestFiles, wanted: int) -> Iterator[Segment]:
    chosen = min(_RUNS, len(files), wanted)
    places = {(len(files) - 1) * place // max(1, chosen - 1) for place in range(chosen)}
    most = wanted // len(places)
    for place in sorted(places):
        file = files[place]
        rows = min(most, file.rows) if file.has_known_rows else count_rows(file, most)
        if rows:
            yield Segment(replace(file, row_groups=file.row_groups or (rows,)), 0, rows)
