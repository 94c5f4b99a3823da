"""The check of a whole results folder: every row exactly once, and records that add up."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import pyarrow as pa

from aigid.bounded_map import bounded_map
from aigid.cores import available_cores
from aigid.errors import AigidError, UsageError
from aigid.records import source_names
from aigid.results.counting import ResultCounter
from aigid.results.file_check import FileProblem, ResultFile, held_metadata
from aigid.results.finding import Finding, FindingKind, Repair
from aigid.results.folder import (
    DETECTIONS_FOLDER,
    FILES_FILE,
    SCAN_FILE,
    SHARDS_FILE,
    SUMMARY_FILE,
    ResultsFolder,
)
from aigid.results.json_records import record_of
from aigid.results.record import ScanRecord, optional_columns_of
from aigid.results.relabel_record import RELABEL_FILE, describe_relabel, read_relabel
from aigid.results.shard_list import ShardList
from aigid.results.summary import ScanSummary
from aigid.shards import Shard, plan_shards
from aigid.sources import ManifestFiles
from aigid.storage import exists, list_names, list_sizes, read_bytes

_CONTRADICTING = (FindingKind.ANOTHER_MODEL, FindingKind.ANOTHER_SCAN, FindingKind.ROWS)
# Each thread holds a whole result file.
_MOST_THREADS = 8


@dataclass(frozen=True)
class _Records:
    """The records of a folder, as far as they are there and whole."""

    scan: ScanRecord | None
    files: ManifestFiles | None
    listed: ShardList | None
    summary: ScanSummary | None
    was_finished: bool


OnRows = Callable[[int], None]
"""Called with the number of rows of a result file that was checked."""


def verify_results(
    results: ResultsFolder, on_rows: OnRows = lambda rows: None
) -> Iterator[Finding]:
    """Yield what is wrong with a results folder; nothing where each row is in it exactly once.

    Reads every result file, a few at a time, and writes nothing. Raises UsageError where the folder
    holds no results, ResumeMismatchError where another version of aigid wrote them, and
    StorageError where an object store fails.
    """
    refuse_no_results(results)
    relabelling = read_relabel(results)
    if relabelling is not None:
        # Its result files are mixed, as they must be.
        detail = describe_relabel(relabelling)
        yield Finding(FindingKind.UNFINISHED, RELABEL_FILE, detail, Repair.NONE)
        return
    listed = results.listed_shards()
    if listed is None:
        results.refuse_other_formats()
    records, findings = _read_records(results, listed)
    yield from findings
    yield from find_leftovers(results)
    yield from _Verification(results, records, on_rows).findings()


def rows_to_verify(results: ResultsFolder) -> int | None:
    """Return how many rows the folder's records tell of; None where they do not.

    Raises UsageError where the folder holds no results.
    """
    refuse_no_results(results)
    listed, scan = results.listed_shards(), results.location.child(SCAN_FILE)
    if listed is not None:
        return listed.rows
    try:
        return record_of(ScanRecord, json.loads(read_bytes(scan))).input.rows
    except (OSError, ValueError):
        # `verify_results` tells of it.
        return None


def refuse_no_results(results: ResultsFolder) -> None:
    """Raise UsageError where the folder holds no results of a scan."""
    names = (SCAN_FILE, FILES_FILE, SHARDS_FILE, SUMMARY_FILE, DETECTIONS_FOLDER)
    if not any(exists(results.location.child(name)) for name in names):
        raise UsageError(
            f"`{results.parameter}` {results.location.text}: no results of a scan there"
        )


def _read_records(
    results: ResultsFolder, listed: ShardList | None
) -> tuple[_Records, list[Finding]]:
    found: list[Finding] = []
    scan = _scan_record(results, listed, found)
    files = _manifest_files(results, listed, found)
    summary = _summary(results, scan, found)
    has_list = exists(results.location.child(SHARDS_FILE))
    finished = has_list or exists(results.location.child(SUMMARY_FILE))
    if finished and listed is None:
        kind = FindingKind.DAMAGED if has_list else FindingKind.MISSING
        detail = (
            "it is not as the scan wrote it"
            if has_list
            else "the list of result files; scans of earlier versions wrote none"
        )
        found.append(Finding(kind, SHARDS_FILE, detail, Repair.REMOVE))
    if listed is not None and summary is None and not exists(results.location.child(SUMMARY_FILE)):
        found.append(
            Finding(FindingKind.MISSING, SUMMARY_FILE, "the scan had finished", Repair.SCAN)
        )
    return _Records(scan, files, listed, summary, finished), found


def _scan_record(
    results: ResultsFolder, listed: ShardList | None, found: list[Finding]
) -> ScanRecord | None:
    """Return the record of the scan, from the copy in `shards.arrow` where it is not whole."""
    file = results.location.child(SCAN_FILE)
    data = read_bytes(file) if exists(file) else None
    repair = Repair.NONE if listed is None else Repair.RESTORE
    advice = "; no copy of it is left: scan again into another folder" if listed is None else ""
    if data is None:
        found.append(
            Finding(FindingKind.MISSING, SCAN_FILE, f"the record of the scan{advice}", repair)
        )
    try:
        record = None if data is None else record_of(ScanRecord, json.loads(data))
    except ValueError as error:
        record = None
        found.append(Finding(FindingKind.DAMAGED, SCAN_FILE, f"{error}{advice}", repair))
    if listed is None or data == listed.scan:
        return record
    if record is not None:
        detail = "it is not as the scan wrote it"
        found.append(Finding(FindingKind.EDITED, SCAN_FILE, detail, repair))
    try:
        return record_of(ScanRecord, json.loads(listed.scan))
    except ValueError:
        return None


def _manifest_files(
    results: ResultsFolder, listed: ShardList | None, found: list[Finding]
) -> ManifestFiles | None:
    file = results.location.child(FILES_FILE)
    repair = Repair.NONE if listed is None else Repair.REMOVE
    advice = "; no record of it is left: scan again into another folder" if listed is None else ""
    if not exists(file):
        detail = f"the list of the manifest's files{advice}"
        found.append(Finding(FindingKind.MISSING, FILES_FILE, detail, repair))
        return None
    data = read_bytes(file)
    same = listed is None or hashlib.sha256(data).hexdigest() == listed.files_sha256
    files = results.recorded_files() if same else None
    if files is None:
        detail = f"it is not as the scan wrote it{advice}"
        found.append(Finding(FindingKind.DAMAGED, FILES_FILE, detail, repair))
    return files


def _summary(
    results: ResultsFolder, scan: ScanRecord | None, found: list[Finding]
) -> ScanSummary | None:
    try:
        summary = results.read_summary()
    except AigidError as error:
        found.append(Finding(FindingKind.DAMAGED, SUMMARY_FILE, str(error), Repair.REMOVE))
        return None
    if summary is not None and scan is not None:
        model, settings = scan.model, scan.settings
        decided = (summary.threshold, summary.mode)
        ours = (summary.model.name, summary.model.fingerprint, *decided, summary.shards)
        threshold, mode = settings.threshold, settings.mode
        if ours != (model.name, model.fingerprint, threshold, mode, scan.shards):
            detail = "its model, threshold, mode or number of shards is not that of scan.json"
            found.append(Finding(FindingKind.CONTRADICTION, SUMMARY_FILE, detail, Repair.REMOVE))
            return None
    return summary


def find_leftovers(results: ResultsFolder) -> Iterator[Finding]:
    """Yield the temporary files of killed writes."""
    for folder, prefix in ((results.location, ""), (results.detections, f"{DETECTIONS_FOLDER}/")):
        for name in sorted(list_names(folder)):
            if name.startswith(".") and name.endswith(".tmp"):
                detail = "a killed write left it, or a scan is writing it now"
                yield Finding(FindingKind.LEFTOVER, f"{prefix}{name}", detail, Repair.REMOVE)


class _Verification:
    """The check of all result files against the records."""

    def __init__(self, results: ResultsFolder, records: _Records, on_rows: OnRows) -> None:
        self._results, self._records, self._on_rows = results, records, on_rows
        self._sizes = list_sizes(results.detections)
        self._counter = ResultCounter(results, optional_columns_of(records.scan))
        # Bad result files, and those among them that only contradict the records.
        self._bad = self._contradicting = 0

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with result files and with the summary of them."""
        shards = 0
        not_yet = 0
        checked = bounded_map(self._check, self._expected(), min(_MOST_THREADS, available_cores()))
        for expected, table, finding in checked:
            shards += 1
            if finding is not None:
                self._bad += 1
                self._contradicting += finding.kind in _CONTRADICTING
                if finding.kind is FindingKind.MISSING and not self._records.was_finished:
                    not_yet += 1
                    continue
                yield finding
            elif table is not None:
                self._on_rows(len(table))
                if expected.shard is not None:
                    self._counter.add(expected.shard, table)
        if not_yet or not self._records.was_finished:
            detail = f"{not_yet:,} of {shards:,} shards are not scanned yet"
            yield Finding(FindingKind.UNFINISHED, SUMMARY_FILE, detail, Repair.SCAN)
        yield from self._others(shards)
        yield from self._totals(shards)

    def _expected(self) -> Iterator[ResultFile]:
        """Yield the result files that are to be there, with what is known of each."""
        scan, listed = self._records.scan, self._records.listed
        for index, (shard, entry) in enumerate(zip_longest(self._plan(), listed or ())):
            file = self._results.detections.child(self._results.shard_name(index))
            yield ResultFile(file, index, scan, shard, entry)

    def _plan(self) -> Iterator[Shard | None]:
        """Yield the scan's shards; None for each where the records do not tell its rows."""
        scan, files = self._records.scan, self._records.files
        if scan is not None and files is not None:
            yield from plan_shards(files, scan.settings.shard_rows, scan.settings.limit)
            return
        if scan is not None:
            yield from (None for _ in range(scan.shards))
        elif self._records.listed is None:
            indexes = self._results.committed()
            yield from (None for _ in range(max(indexes, default=-1) + 1))

    def _check(self, expected: ResultFile) -> tuple[ResultFile, pa.Table | None, Finding | None]:
        name = self._results.shard_name(expected.index)
        if name not in self._sizes:
            detail = f"the result file of shard {expected.index}"
            finding = self._finding(FindingKind.MISSING, name, detail, Repair.SCAN)
            return expected, None, finding
        try:
            return expected, expected.check(), None
        except FileProblem as problem:
            kind = problem.kind
            if kind is FindingKind.SWAPPED and self._has_own_file(name):
                kind = FindingKind.DOUBLED
            finding = self._finding(kind, name, problem.detail, Repair.REMOVE, problem.row)
            return expected, None, finding

    def _has_own_file(self, name: str) -> bool:
        """Whether the shard whose rows a file has, has them in its own file as well."""
        try:
            held = held_metadata(self._results.detections.child(name)).get("shard", "")
            own = self._results.shard_name(int(held))
            found = held_metadata(self._results.detections.child(own)).get("shard")
            return own != name and found == held
        except (FileProblem, ValueError):
            return False

    def _others(self, shards: int) -> Iterator[Finding]:
        for name in sorted(self._results.other_files(shards)):
            kind, detail, repair = FindingKind.FOREIGN, "aigid did not write it", Repair.NONE
            try:
                held = held_metadata(self._results.detections.child(name))
            except FileProblem:
                held = {}
            if "shard" in held:
                kind, detail = FindingKind.ANOTHER_SCAN, "a result file of no shard of this scan"
                if self._has_own_file(name):
                    kind, detail = FindingKind.DOUBLED, f"it has the rows of shard {held['shard']}"
                if self._results.index_of(name) is not None:
                    repair = Repair.REMOVE
            if repair is Repair.NONE:
                detail += "; move it away: programs that open the folder would read it"
            yield self._finding(kind, name, detail, repair)

    def _totals(self, shards: int) -> Iterator[Finding]:
        """Yield how the summary differs from the result files, where all of these are sound."""
        scan, summary = self._records.scan, self._records.summary
        present = len(self._results.committed())
        if scan is not None and shards != scan.shards:
            detail = f"it says {scan.shards:,} shards, but other records {shards:,}"
            yield Finding(FindingKind.CONTRADICTION, SCAN_FILE, detail, Repair.NONE)
        elif self._records.listed is None and present and self._contradicting == present:
            detail = "no result file fits it: the record itself may be wrong"
            yield Finding(FindingKind.CONTRADICTION, SCAN_FILE, detail, Repair.NONE)
        if scan is None or summary is None or self._records.files is None or self._bad:
            return
        # Without an open-set threshold, a model never answers "other".
        known, labels = source_names(scan.model.labels), scan.model.labels
        names = [name for name in known if name in labels or name in summary.sources]
        counts = self._counter.totals(names)
        wrong = [
            f"{name} {getattr(summary, name)}: the result files have {value}"
            for name, value in vars(counts).items()
            if getattr(summary, name) != value
        ]
        if wrong:
            yield Finding(
                FindingKind.CONTRADICTION, SUMMARY_FILE, "; ".join(wrong)[:1000], Repair.REMOVE
            )

    def _finding(
        self, kind: FindingKind, name: str, detail: str, repair: Repair, row: int | None = None
    ) -> Finding:
        return Finding(kind, f"{DETECTIONS_FOLDER}/{name}", detail, repair, row)
