"""The scan: plan the shards, scan those that are missing, sum up."""

import hashlib
import time
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aigid.config import RayConfig, ScanConfig
from aigid.contract import ModelContract, find_model, load_contract
from aigid.errors import IncompleteScanError, ServerError, UsageError
from aigid.extras import missing_extra
from aigid.manifest import Manifest, open_manifest
from aigid.observe import ScanBegin, ScanWatch, observing
from aigid.progress import OnMessage, ScanProgress, StageFigures
from aigid.progress_bar import counted
from aigid.records import Mode
from aigid.results import (
    SCAN_FORMAT,
    FailedRows,
    InputTotals,
    ModelIdentity,
    ResultsFolder,
    RunFigures,
    ScanCounts,
    ScanModel,
    ScanRecord,
    ScanSettings,
    ScanSummary,
    begin_retry,
    check_kept_columns,
    count_results,
    open_results,
    refuse_relabel_under_way,
    software_versions,
)
from aigid.runners import run_local
from aigid.scan_job import (
    ScanJob,
    decision_threshold,
    make_scanner,
    optional_columns,
    verdict_rule,
)
from aigid.scorers import load_scorer
from aigid.shards import PlanTotals, Shard, plan_shards
from aigid.sources import expand_braces
from aigid.storage import is_folder, locate, without_query

# More are counted only.
_NAMED_FILES = 3


@dataclass(frozen=True)
class ScanOutcome:
    """The summary of a scan, and whether more rows failed than `max_error_rate` allows."""

    summary: ScanSummary
    too_many_errors: bool


@dataclass(frozen=True)
class _Model:
    """The model of a scan, and the precision in which it runs."""

    contract: ModelContract
    precision: str


@dataclass(frozen=True)
class _Work:
    """The shards to scan, the totals of the whole plan, and the folder for results.

    The shards are those still missing, and those with failed rows that are retried. The folder is
    held with `token`.
    """

    shards: Iterator[Shard]
    totals: PlanTotals
    results: ResultsFolder
    token: str


@dataclass(frozen=True)
class _Done:
    """What a run did: its figures, its duration."""

    stages: StageFigures
    seconds: float


_Runner = Callable[[_Work, ScanWatch, OnMessage], list[str]]
"""Scans and commits shards, and returns a line for each shard that was given up."""


def run_scan(
    config: ScanConfig, progress: ScanProgress, on_message: OnMessage = lambda line: None
) -> ScanOutcome:
    """Scan a manifest into a results folder, or continue a scan that was interrupted there.

    `on_message` is called with lines that a person must see, such as the demo model's notice.

    Raises UsageError for what cannot be done as asked, ResumeMismatchError where the folder holds
    another scan, IncompleteScanError where shards were given up, and AigidError where the scan
    cannot go on. Committed shards always stay.
    """
    config = replace(config, paths=expand_braces(config.paths))
    with observing(config, progress, on_message) as watch:
        return _scan(config, watch, on_message)


def _scan(config: ScanConfig, watch: ScanWatch, on_message: OnMessage) -> ScanOutcome:
    results = _open_results(config)
    manifest = open_manifest(
        config.paths, config.columns, known=results.recorded_files(), limit=config.limit
    )
    check_kept_columns(manifest.keep_schema, optional_columns(config))
    for note in manifest.notes:
        on_message(note)
    with _runner(config, manifest, on_message) as (model, runner):
        _tell_of_model(config, model, on_message)
        with results.open() as token:
            refuse_relabel_under_way(results)
            listed = results.shards_of_this_scan()
            changed = results.changed_shards(listed) if listed else set()
            done = results.committed() - changed
            totals = PlanTotals.of(_plan(config, manifest), done, results.count_rows)
            results.claim(_scan_record(config, model, manifest, totals), manifest.files)
            _discard(results, changed, on_message)
            failed = _failed_rows(config, manifest, results, done)
            totals, done = totals.without(failed.errors, failed.rows), done - failed.errors.keys()
            summary = results.read_summary() if totals.done_shards == totals.shards else None
            if summary is None or listed is None or listed.rows != summary.rows:
                to_scan = (shard for shard in _plan(config, manifest) if shard.index not in done)
                work = _Work(to_scan, totals, results, token)
                run = _run(runner, model, work, watch, on_message)
                summary = _finish(config, model, manifest, work, summary, run)
            _tell_of_retry(config, manifest, results, failed, on_message)
            _tell_of_others(results, totals, on_message)
    return ScanOutcome(summary, summary.error_rate > config.max_error_rate)


def _tell_of_model(config: ScanConfig, model: _Model, on_message: OnMessage) -> None:
    if model.contract.notice:
        on_message(model.contract.notice)
    if config.max_fpr is not None:
        on_message(model.contract.threshold_origin(config.max_fpr))
    mode = Mode(config.mode)
    if mode.rate is not None:
        on_message(model.contract.verdict_origin(mode, mode.rate))


def _discard(results: ResultsFolder, changed: set[int], on_message: OnMessage) -> None:
    """Remove result files that changed since the scan finished, and say which."""
    if not changed:
        return
    names = _first_names([results.shard_name(index) for index in sorted(changed)])
    on_message(
        f"{results.detections.text}: {counted(len(changed), 'result file')} changed since the scan "
        f"finished, to be scanned again: {names}"
    )
    results.discard(changed)


def _failed_rows(
    config: ScanConfig, manifest: Manifest, results: ResultsFolder, done: Container[int]
) -> FailedRows:
    """Return the rows of committed shards that are to be scanned again."""
    committed = (shard for shard in _plan(config, manifest) if shard.index in done)
    failed = FailedRows.of(results, committed, config.codes_to_retry)
    if failed.errors:
        begin_retry(results)
    return failed


def _tell_of_retry(
    config: ScanConfig,
    manifest: Manifest,
    results: ResultsFolder,
    failed: FailedRows,
    on_message: OnMessage,
) -> None:
    """Say how many rows were retried, and how many of them are scored now."""
    if failed.errors:
        scored = failed.count_scored(results, _plan(config, manifest))
        on_message(
            f"rows that were scanned again: {failed.rows:,}; scored now: {scored:,}; failed again: "
            f"{failed.rows - scored:,}"
        )
    elif failed.codes:
        on_message(f"no committed row has failed with {', '.join(failed.codes)}: nothing to retry")


def _tell_of_others(results: ResultsFolder, totals: PlanTotals, on_message: OnMessage) -> None:
    """Say which files beside the result files readers of the folder would take for some."""
    others = sorted(results.other_files(totals.shards))
    if others:
        on_message(
            f"{results.detections.text}: not files of this scan: {_first_names(others)}; move them "
            "away, because programs that open the folder would read them too"
        )


def _first_names(names: list[str]) -> str:
    return ", ".join([*names[:_NAMED_FILES], *(["..."] if names[_NAMED_FILES:] else [])])


def _plan(config: ScanConfig, manifest: Manifest) -> Iterator[Shard]:
    return plan_shards(manifest.files, config.shard_rows, config.limit)


@contextmanager
def _runner(
    config: ScanConfig, manifest: Manifest, on_message: OnMessage
) -> Iterator[tuple[_Model, _Runner]]:
    """Yield the model and the runner that the config asks for."""
    repository = find_model(config.model)
    if config.ray is not None:
        with _ray_runner(config, config.ray, manifest, repository) as model_and_runner:
            yield model_and_runner
        return
    with closing(load_scorer(repository, config.triton, config.batch_rows, on_message)) as scorer:
        scanner = make_scanner(config, repository, manifest, scorer)

        def run(work: _Work, watch: ScanWatch, on_message: OnMessage) -> list[str]:
            run_local(scanner, work.shards, work.results, watch)
            return []

        yield _Model(scorer.contract, scorer.precision), run


@contextmanager
def _ray_runner(
    config: ScanConfig, ray: RayConfig, manifest: Manifest, repository: Path
) -> Iterator[tuple[_Model, _Runner]]:
    try:
        from aigid.runners import WorkOrder, connect_ray, run_ray
    except ModuleNotFoundError as error:
        raise missing_extra("scanning on a Ray cluster", error, "ray") from error
    model = _model_of_workers(config, repository)

    def run(work: _Work, watch: ScanWatch, on_message: OnMessage) -> list[str]:
        job = ScanJob(config, manifest.without_files(), model.contract.fingerprint, model.precision)
        order = WorkOrder(
            job, config.out, work.token, str(Path.cwd()), manifest.files[0].uri, ray.worker_cpus
        )
        failures = run_ray(order, ray, work.shards, work.totals, watch, on_message)
        return [str(failure) for failure in failures]

    with connect_ray(ray):
        yield model, run


def _model_of_workers(config: ScanConfig, repository: Path) -> _Model:
    """Return the model that the workers will load; with Triton, the one that the servers have."""
    if config.triton is None:
        contract = load_contract(repository)
        return _Model(contract, contract.cpu_precision)
    with closing(load_scorer(repository, config.triton, config.batch_rows)) as scorer:
        return _Model(scorer.contract, scorer.precision)


def _run(
    runner: _Runner, model: _Model, work: _Work, watch: ScanWatch, on_message: OnMessage
) -> _Done:
    """Scan the work's shards.

    Raises IncompleteScanError where any were given up.
    """
    totals, contract = work.totals, model.contract
    watch.start(ScanBegin(totals, contract.name, contract.fingerprint, model.precision))
    started = time.perf_counter()
    try:
        failures = runner(work, watch, on_message)
    except ServerError as error:
        raise ServerError(
            f"{error}; committed shards stay: run the same scan again to continue"
        ) from error
    if failures:
        raise IncompleteScanError(
            f"{len(failures)} of {totals.shards} shards could not be scanned; all others are "
            "committed. Solve the problem, then run the same scan again for the missing ones. "
            f"The first failure: {failures[0]}"
        )
    return _Done(watch.done.stages, time.perf_counter() - started)


def _finish(
    config: ScanConfig,
    model: _Model,
    manifest: Manifest,
    work: _Work,
    before: ScanSummary | None,
    run: _Done,
) -> ScanSummary:
    """Count the results, list their files, and write the summary unless `before` is the same."""
    results, shards = work.results, work.results.new_list()
    plan = _plan(config, manifest)
    optional = optional_columns(config)
    counts = count_results(results, plan, model.contract.sources, optional, shards.append)
    results.write_shards(shards)
    figures = RunFigures.of(counts.rows - work.totals.done_rows, run.seconds, run.stages)
    summary = _summary(config, model, counts, figures)
    if before is not None and replace(summary, run=before.run) == before:
        return before
    results.write_summary(summary)
    return summary


def _scan_record(
    config: ScanConfig, model: _Model, manifest: Manifest, totals: PlanTotals
) -> ScanRecord:
    contract, verdicts = model.contract, verdict_rule(config, model.contract)
    return ScanRecord(
        format=SCAN_FORMAT,
        manifests=tuple(map(without_query, config.paths)),
        input=InputTotals(len(manifest.files), totals.planned_rows),
        model=ScanModel(contract.name, contract.fingerprint, model.precision, contract.labels),
        settings=ScanSettings(
            columns=manifest.columns,
            threshold=decision_threshold(config, contract),
            mode=verdicts.mode.value,
            ai_from=verdicts.ai_from,
            real_below=verdicts.real_below,
            limit=config.limit,
            shard_rows=config.shard_rows,
            image_root=config.image_root and without_query(config.image_root),
            allow_outside_root=config.allow_outside_root,
            allow_private_addresses=config.allow_private_addresses,
            respect_opt_out=config.respect_opt_out,
            evidence=config.evidence,
            trust_anchors_sha256=_sha256(config.trust_anchors),
            readers=tuple(sorted(set(config.readers))),
            hash=config.hash,
        ),
        shards=totals.shards,
        versions=software_versions(),
    )


def _sha256(text: str) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def _summary(
    config: ScanConfig, model: _Model, counts: ScanCounts, figures: RunFigures
) -> ScanSummary:
    contract = model.contract
    return ScanSummary(
        format=SCAN_FORMAT,
        model=ModelIdentity(contract.name, contract.fingerprint, contract.notice),
        threshold=decision_threshold(config, contract),
        mode=Mode(config.mode).value,
        run=figures,
        **vars(counts),
    )


def _open_results(config: ScanConfig) -> ResultsFolder:
    """Return the folder for results.

    Raises UsageError where a later scan would take the results for a part of the manifest, and
    ResumeMismatchError where another version of aigid wrote results there, or a relabel of them has
    not finished.
    """
    results, out = open_results(config.out), locate(config.out)
    for source in map(locate, config.paths):
        if out.is_below(source) and is_folder(source):
            raise UsageError(
                f"`out` {config.out}: is inside the manifest's folder {source.text}: "
                "give a folder outside it"
            )
    results.refuse_other_formats()
    refuse_relabel_under_way(results)
    return results
