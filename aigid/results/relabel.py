"""Decide anew what the images of a finished scan are, from its scores: nothing is scored again."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from aigid.bounded_map import map_in_pool
from aigid.contract import ModelContract, find_model, load_contract
from aigid.cores import available_cores
from aigid.decisions import VerdictRule, mode_of
from aigid.errors import ContractError, ResultsError, UsageError
from aigid.progress import ScanProgress
from aigid.progress_bar import counted
from aigid.records import Mode
from aigid.results.counting import count_results
from aigid.results.file_check import FileProblem, ResultFile, held_metadata
from aigid.results.file_metadata import decision_metadata
from aigid.results.finished import HOW_TO_REPAIR, FinishedScan, read_finished
from aigid.results.folder import (
    SCAN_FILE,
    SHARDS_FILE,
    SUMMARY_FILE,
    ResultsFolder,
    open_results,
)
from aigid.results.json_records import format_record
from aigid.results.record import ScanRecord
from aigid.results.relabel_record import (
    RELABEL_FILE,
    RelabelRecord,
    describe_relabel,
    read_relabel,
    refuse_relabel_under_way,
)
from aigid.results.relabelled_table import relabelled_table
from aigid.results.summary import ScanSummary
from aigid.results.verify import refuse_no_results
from aigid.shards import Shard, plan_shards
from aigid.storage import Location, exists

# Each thread holds a whole result file, twice.
_MOST_THREADS = 8

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RelabelConfig:
    """What is decided anew, and how. Raises UsageError where nothing is to change.

    `folder` holds the results of a finished scan, and `out` gets the new ones; None changes
    `folder` in place. What is None stays as it was: `threshold` or `max_fpr`, and `mode`. The
    thresholds of rates and modes are those of `model`, by default the demo model.
    """

    folder: str
    out: str | None = None
    threshold: float | None = None
    max_fpr: float | None = None
    mode: Mode | str | None = None
    model: Path | str | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.max_fpr is not None:
            raise UsageError("give one of `threshold` and `max_fpr`, not both")
        if {self.threshold, self.max_fpr, self.mode, self.model} == {None}:
            raise UsageError("give `threshold`, `max_fpr`, `mode` or `model`: what is to change")
        for name in ("threshold", "max_fpr"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"`{name}` must be from 0 to 1: got {value!r}")
        if self.mode is not None:
            object.__setattr__(self, "mode", mode_of(self.mode))


def relabel(config: RelabelConfig, progress: ScanProgress) -> ScanSummary:
    """Write the columns `is_ai`, `source` and `verdict` of a scan's results anew.

    They follow from the stored scores. All other columns stay as they are. The same call continues
    a relabel that was interrupted. In a folder of its own the results are those of a scan with the
    new settings, and such a scan could go on there. In place, each result file is replaced at once;
    the folder has no summary until all are, and meanwhile only the same relabel goes on there.

    Raises UsageError for what cannot be done as asked, ResumeMismatchError where `out` holds other
    results, and ResultsError where a result file is damaged; no result is lost then.
    """
    source = open_results(config.folder, parameter="folder")
    refuse_no_results(source)
    source.refuse_other_formats()
    if config.out is None:
        return _relabel_in_place(config, source, progress)
    return _relabel_into(config, source, progress)


def _relabel_into(
    config: RelabelConfig, source: ResultsFolder, progress: ScanProgress
) -> ScanSummary:
    """Relabel into a folder of its own, which only a scan with the same record may hold."""
    target = open_results(config.out or "")
    if target.location.is_below(source.location) or source.location.is_below(target.location):
        raise UsageError(f"`out` {config.out}: give a folder outside the results, or `in_place`")
    found = read_finished(source)
    work = _Relabel(source, target, found, _new_record(config, found.scan))
    target.refuse_other_formats()
    with target.open():
        refuse_relabel_under_way(target)
        target.claim(work.after, found.files)
        listed, summary = target.shards_of_this_scan(), target.read_summary()
        if summary is not None and listed is not None and not target.changed_shards(listed):
            return summary
        done = target.committed()
        return work.run(lambda shard: shard.index in done, progress)


def _relabel_in_place(
    config: RelabelConfig, results: ResultsFolder, progress: ScanProgress
) -> ScanSummary:
    with results.open():
        record = read_relabel(results)
        if record is None:
            found = read_finished(results)
            after = _new_record(config, found.scan)
            if after == found.scan:
                return found.summary
            _check_all(results, found)
            record = RelabelRecord(found.scan, after, found.summary)
            results.write(RELABEL_FILE, format_record(record))
        elif _new_record(config, record.before) != record.after:
            raise UsageError(f"{config.folder}: {describe_relabel(record)}")
        # From here on, the folder holds no finished scan, until all result files are replaced.
        results.remove(SUMMARY_FILE)
        results.remove(SHARDS_FILE)
        files = results.recorded_files()
        if files is None:
            raise ResultsError(f"{config.folder}: files.arrow is missing or damaged: restore it")
        found = FinishedScan(record.before, files, record.summary)
        work = _Relabel(results, results, found, record.after)
        return work.run(work.is_decided_anew, progress)


@dataclass(frozen=True)
class _Relabel:
    """The work: result files of `source` become those of `target`, which may be the same folder."""

    source: ResultsFolder
    target: ResultsFolder
    found: FinishedScan
    after: ScanRecord

    def run(self, is_done: Callable[[Shard], bool], progress: ScanProgress) -> ScanSummary:
        """Write the result files that are not done, and then the records of a finished scan."""
        progress.start(self.found.summary.rows, 0)
        with _mapped(partial(self._write, is_done), self._shards()) as written:
            for rows in written:
                progress.advance(rows, 0)
        if self._is_in_place:
            self.target.write(SCAN_FILE, format_record(self.after))
            self._refuse_missing()
        listed = self.target.new_list()
        counts = count_results(
            self.target,
            self._shards(),
            list(self.found.summary.sources),
            optional=self.after.settings.optional,
            on_shard=listed.append,
        )
        self.target.write_shards(listed)
        settings, before = self.after.settings, self.found.summary
        decided = replace(before, threshold=settings.threshold, mode=settings.mode)
        summary = ScanSummary(**(vars(decided) | vars(counts)))
        self.target.write_summary(summary)
        self.target.remove(RELABEL_FILE)
        return summary

    def is_decided_anew(self, shard: Shard) -> bool:
        """Whether a result file holds the new decisions, since this relabel was begun before."""
        try:
            held = held_metadata(self._file(shard))
        except FileProblem:
            # `_write` says what is wrong with it.
            return False
        settings = self.after.settings
        expected = decision_metadata(settings.threshold, settings.verdicts)
        return {name: held.get(name) for name in expected} == expected

    def _write(self, is_done: Callable[[Shard], bool], shard: Shard) -> int:
        """Write a shard's result file, and return its number of rows."""
        if is_done(shard):
            return self.target.count_rows(shard)
        if self._is_in_place and not exists(self._file(shard)):
            # `_refuse_missing` tells of it: the scan makes it again.
            return 0
        table = _read(self.source, self.found.scan, shard)
        self.target.commit(shard.index, relabelled_table(table, shard.index, self.after))
        return len(table)

    @property
    def _is_in_place(self) -> bool:
        return self.source is self.target

    def _file(self, shard: Shard) -> Location:
        return self.source.detections.child(self.source.shard_name(shard.index))

    def _refuse_missing(self) -> None:
        """End a relabel in place whose result files somebody removed: the scan makes them again."""
        missing = self.after.shards - len(self.target.committed())
        if missing > 0:
            self.target.remove(RELABEL_FILE)
            raise ResultsError(
                f"{self.target.location.text}: {counted(missing, 'result file')} missing, the "
                "others are relabelled: run the scan with the new settings to make them again"
            )

    def _shards(self) -> Iterator[Shard]:
        return _plan(self.found)


def _read(results: ResultsFolder, scan: ScanRecord, shard: Shard) -> pa.Table:
    """Return a shard's result file. Raises ResultsError where it is not as the scan wrote it."""
    file = results.detections.child(results.shard_name(shard.index))
    try:
        return ResultFile(file, shard.index, scan, shard).read()
    except FileProblem as problem:
        raise ResultsError(
            f"{file.text}: {problem.kind}: {problem.detail}; {HOW_TO_REPAIR}"
        ) from problem


def _check_all(results: ResultsFolder, found: FinishedScan) -> None:
    """Read all result files, so that nothing is changed where one of them is damaged."""

    def check(shard: Shard) -> None:
        _read(results, found.scan, shard)

    with _mapped(check, _plan(found)) as checked:
        for _ in checked:
            pass


def _plan(found: FinishedScan) -> Iterator[Shard]:
    settings = found.scan.settings
    return plan_shards(found.files, settings.shard_rows, settings.limit)


@contextmanager
def _mapped(
    function: Callable[[Shard], Answer], shards: Iterable[Shard]
) -> Iterator[Iterator[Answer]]:
    """Yield the answers of a function of each shard, in order; at the end, all calls have ended."""
    threads = min(_MOST_THREADS, available_cores())
    pool = ThreadPoolExecutor(threads, thread_name_prefix="relabel")
    try:
        with closing(map_in_pool(pool, function, shards, threads)) as answers:
            yield answers
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _new_record(config: RelabelConfig, scan: ScanRecord) -> ScanRecord:
    """Return the record of a scan with the new settings.

    Raises ContractError where the model is not the scan's, or lacks a threshold.
    """
    before, mode = scan.settings, Mode(config.mode or scan.settings.mode)
    threshold = before.threshold if config.threshold is None else config.threshold
    contract = None
    if config.model is not None or config.max_fpr is not None or mode.rate is not None:
        contract = _contract_of(config, scan)
    if contract is not None and config.max_fpr is not None:
        threshold = contract.threshold_for(config.max_fpr).p_ai
    rule = VerdictRule(mode, threshold, threshold)
    if contract is not None:
        rule = VerdictRule.of(mode, threshold, contract)
    settings = replace(
        before,
        threshold=threshold,
        mode=mode.value,
        ai_from=rule.ai_from,
        real_below=rule.real_below,
    )
    return replace(scan, settings=settings)


def _contract_of(config: RelabelConfig, scan: ScanRecord) -> ModelContract:
    repository = find_model(config.model)
    contract = load_contract(repository)
    if contract.fingerprint != scan.model.fingerprint:
        raise ContractError(
            f"`model` {repository}: its fingerprint is {contract.fingerprint[:16]}..., but "
            f"{scan.model.fingerprint[:16]}... scanned {config.folder}. Stored scores only follow "
            "other thresholds: other weights, temperatures or another open set change the scores "
            "themselves. Give a version of the scan's model, or scan again into another folder"
        )
    return contract
