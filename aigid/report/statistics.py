"""All that a report says of a scan's rows, from one pass over the result files."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from aigid.bounded_map import bounded_map
from aigid.errors import UsageError
from aigid.progress import ScanProgress
from aigid.report.config import ReportConfig
from aigid.report.counts import FindingCounts, ScoreCounts
from aigid.report.duplicates import DuplicateCounter, Duplicates
from aigid.report.groups import Group, GroupCounts
from aigid.report.near import NearHashes, near_hashes
from aigid.report.opened import OpenedResults
from aigid.report.rows import CodedColumn, ResultRows
from aigid.report.selection import Galleries
from aigid.report.truth import TruthCounts
from aigid.shards import Shard

_THREADS = 4
_IN_GALLERY = 12
_RUNS = 20
_COUNTED = ("manifest", "row", "p_ai", "is_ai", "source", "verdict", "error")
_OPTIONAL = ("evidence", "evidence_detail", "hash", "perceptual_hash")


@dataclass(frozen=True)
class Statistics:
    """What one pass over the result files found.

    `grouped_by` says what `groups` are: "file", "rows" or a kept column's name. What a scan did not
    write, or nobody asked for, is None.
    """

    scores: ScoreCounts
    grouped_by: str
    groups: list[Group]
    galleries: Galleries
    findings: FindingCounts | None
    same: Duplicates | None
    alike: Duplicates | None
    near: NearHashes | None
    truth: TruthCounts | None


def collect(opened: OpenedResults, config: ReportConfig, progress: ScanProgress) -> Statistics:
    """Read all result files once, a few at a time.

    Raises ResultsError where one is missing or damaged.
    """
    pass_over = _Pass(opened, config)
    names = pass_over.columns

    def read(shard: Shard) -> ResultRows:
        return ResultRows.of(shard.index, opened.folder.read(shard, names))

    for rows in bounded_map(read, opened.shards(), _THREADS):
        pass_over.add(rows)
        progress.advance(len(rows), 0)
    return pass_over.statistics()


class _Pass:
    """One pass over the result files."""

    def __init__(self, opened: OpenedResults, config: ReportConfig) -> None:
        self._opened, self._by = opened, config.by
        self._scores, self._groups = ScoreCounts(), GroupCounts()
        ai_from, real_below = opened.bounds
        self._galleries = Galleries((ai_from + real_below) / 2, _IN_GALLERY)
        self._findings = FindingCounts() if opened.has("evidence_detail") else None
        self._same = DuplicateCounter() if opened.has("hash") else None
        self._alike = DuplicateCounter() if opened.has("perceptual_hash") else None
        self._truth = TruthCounts(config.label_column) if config.label_column else None
        rows = opened.summary.rows if opened.summary else opened.totals.rows
        # Before the end, nobody knows the rows of a tar.
        self._run_rows = -(-rows // _RUNS) or opened.scan.settings.shard_rows
        # The images of a folder are listed as several runs of one name.
        first = opened.files[0].path
        self._one_file = all(file.path == first for file in opened.files)
        for name in filter(None, (config.by, config.label_column)):
            _check_comparable(name, opened.schema.field(name).type)

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        kept = [self._by] if self._by else []
        kept += [self._truth.column] if self._truth else []
        names = dict.fromkeys((*_COUNTED, *_OPTIONAL, *kept))
        return [name for name in names if self._opened.has(name)]

    def add(self, rows: ResultRows) -> None:
        groups = self._groups_of(rows)
        self._scores.add(rows)
        self._groups.add(groups, rows)
        self._galleries.add(rows)
        if self._findings is not None:
            self._findings.add(rows)
        if self._truth is not None:
            self._truth.add(rows)
        if self._same is not None and rows.hashes is not None:
            self._same.add(rows.hashes[rows.hashes != 0])
        if self._alike is not None:
            column = rows.table.column("perceptual_hash").drop_null()
            self._alike.add(column.to_numpy().astype(np.uint64))

    def statistics(self) -> Statistics:
        same = self._same.duplicates() if self._same else None
        alike, near = self._looks()
        return Statistics(
            scores=self._scores,
            grouped_by=self._by or ("rows" if self._one_file else "file"),
            groups=self._groups.groups(),
            galleries=self._galleries,
            findings=self._findings,
            same=same,
            alike=alike,
            near=near,
            truth=self._truth,
        )

    def _looks(self) -> tuple[Duplicates | None, NearHashes | None]:
        """Return the images that look the same, and those that look nearly so.

        A part of all images has not the neighbours that it would have among all of them.
        """
        if self._alike is None:
            return None, None
        alike, values = self._alike.duplicates_and_values()
        return alike, None if alike.sampled else near_hashes(values)

    def _groups_of(self, rows: ResultRows) -> CodedColumn:
        if self._by is not None:
            return CodedColumn.of(rows.table.column(self._by))
        if not self._one_file:
            return CodedColumn.of(rows.table.column("manifest"))
        return self._runs_of(rows)

    def _runs_of(self, rows: ResultRows) -> CodedColumn:
        """Return the run of each row, of _RUNS runs of equal length over the only file."""
        first, size = self._scores.rows, self._run_rows
        codes = (np.arange(first, first + len(rows)) // size).astype(np.int32)
        runs = codes.max(initial=0) + 1
        names = [f"{run * size:,} to {(run + 1) * size - 1:,}" for run in range(runs)]
        return CodedColumn(names, codes)


def _check_comparable(name: str, kind: pa.DataType) -> None:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_nested(kind) or "binary" in str(kind):
        raise UsageError(
            f"column {name} is {kind}, whose values cannot be compared: give one of texts, numbers "
            "or dates"
        )
