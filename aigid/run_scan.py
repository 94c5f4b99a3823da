"""The scan: plan, scan each missing shard, sum up."""

import dataclasses
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aigid.config import RayConfig, ScanConfig
from aigid.contract import ModelContract, find_model, load_contract
from aigid.errors import IncompleteScanError, MissingExtraError, ServerError, UsageError
from aigid.manifest import Manifest, open_manifest
from aigid.progress import OnMessage, ScanProgress
from aigid.results import (
    ModelIdentity,
    ResultsFolder,
    RunFigures,
    ScanCounts,
    ScanSummary,
    open_results,
    results_schema,
)
from aigid.runners.local import run_local
from aigid.scan_job import ScanJob, decision_threshold, make_scanner
from aigid.scorers.load import load_scorer
from aigid.shards import PlanTotals, Shard, plan_shards
from aigid.storage import is_folder, locate
from aigid.version import __version__

SCAN_FORMAT = 2


@dataclass(frozen=True)
class ScanOutcome:
    """How a scan ended: its summary, and whether more rows failed than `max_error_rate` allows."""

    summary: ScanSummary
    too_many_errors: bool


@dataclass(frozen=True)
class _Model:
    """Which model scans, and in which precision."""

    contract: ModelContract
    precision: str


@dataclass(frozen=True)
class _Work:
    """The shards that are missing, with what a way to run them needs to know of the rest."""

    shards: Iterator[Shard]
    extent: PlanTotals
    results: ResultsFolder
    token: str


_Run = Callable[[_Work, ScanProgress, OnMessage], list[str]]
"""Scans and commits shards; gives a line for each that was given up."""


def run_scan(
    config: ScanConfig, progress: ScanProgress, on_message: OnMessage = lambda line: None
) -> ScanOutcome:
    """Scan a manifest into a results folder, or go on with a scan that was cut short there.

    `on_message` gets lines that a person must see (the demo model's notice). Raises UsageError for what cannot be done as
    asked, ResumeMismatchError where the folder holds another scan, IncompleteScanError where shards were given up, and
    AigidError where the scan cannot go on.
    """
    results = open_results(config.out)
    _refuse_results_among_manifests(config)
    manifest = open_manifest(
        config.paths, config.columns, known=results.recorded_files(), limit=config.limit
    )
    results_schema(manifest.keep_schema)
    with _runner(config, manifest, on_message) as (model, run):
        if model.contract.notice:
            on_message(model.contract.notice)
        with results.open() as token:
            done = results.committed()
            extent = PlanTotals.of(_plan(config, manifest), done)
            results.claim(_scan_record(config, model, manifest, extent), manifest.files)
            summary = results.read_summary() if extent.done_shards == extent.shards else None
            if summary is None:
                missing = (shard for shard in _plan(config, manifest) if shard.index not in done)
                run_facts = _run(run, _Work(missing, extent, results, token), progress, on_message)
                summary = _summary(config, model, results.count(_plan(config, manifest)), run_facts)
                results.write_summary(summary)
    return ScanOutcome(summary, summary.error_rate > config.max_error_rate)


@contextmanager
def _runner(
    config: ScanConfig, manifest: Manifest, on_message: OnMessage
) -> Iterator[tuple[_Model, _Run]]:
    """The model, and the way to run shards that is asked for."""
    repository = find_model(config.model)
    if config.ray is not None:
        with _ray_runner(config, config.ray, manifest, repository) as runner:
            yield runner
        return
    with closing(load_scorer(repository, config.triton, config.batch_rows, on_message)) as scorer:
        scanner = make_scanner(config, repository, manifest, scorer)

        def run(work: _Work, progress: ScanProgress, on_message: OnMessage) -> list[str]:
            run_local(scanner, work.shards, work.results, progress.advance)
            return []

        yield _Model(scorer.contract, scorer.precision), run


@contextmanager
def _ray_runner(
    config: ScanConfig, ray: RayConfig, manifest: Manifest, repository: Path
) -> Iterator[tuple[_Model, _Run]]:
    try:
        from aigid.runners.ray import run_ray
        from aigid.runners.ray_cluster import ray_cluster
        from aigid.runners.ray_worker import WorkOrder
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"scanning on a Ray cluster needs {error.name}: pip install 'aigid[ray]'"
        ) from error
    model = _model_of(config, repository)

    def run(work: _Work, progress: ScanProgress, on_message: OnMessage) -> list[str]:
        job = ScanJob(config, manifest.without_files(), model.contract.fingerprint, model.precision)
        order = WorkOrder(
            job, config.out, work.token, str(Path.cwd()), manifest.files[0].path, ray.worker_cpus
        )
        return [
            str(failure)
            for failure in run_ray(order, ray, work.shards, work.extent, progress, on_message)
        ]

    with ray_cluster(ray):
        yield model, run


def _model_of(config: ScanConfig, repository: Path) -> _Model:
    """What the workers will find too: by the contract alone, for the graphs are theirs to load; or by asking the servers."""
    if config.triton is None:
        contract = load_contract(repository)
        return _Model(contract, contract.cpu_precision)
    with closing(load_scorer(repository, config.triton, config.batch_rows)) as scorer:
        return _Model(scorer.contract, scorer.precision)


def _plan(config: ScanConfig, manifest: Manifest) -> Iterator[Shard]:
    return plan_shards(manifest.files, config.shard_rows, config.limit)


def _run(run: _Run, work: _Work, progress: ScanProgress, on_message: OnMessage) -> RunFigures:
    progress.start(work.extent.rows, work.extent.done_rows)
    started = time.perf_counter()
    try:
        failures = run(work, progress, on_message)
    except ServerError as error:
        raise ServerError(
            f"{error}; what was committed stays: run the same command again to go on"
        ) from error
    if failures:
        raise IncompleteScanError(
            f"{len(failures)} of {work.extent.shards} shards could not be scanned, all others are committed: mend it and run "
            f"the same command again for those; the first is {failures[0]}"
        )
    elapsed_s, rows = time.perf_counter() - started, work.extent.rows - work.extent.done_rows
    return RunFigures(
        rows=rows,
        seconds=round(elapsed_s, 3),
        rows_per_s=round(rows / elapsed_s, 2) if rows else None,
        peak_memory_mib=round(_peak_memory_mib(), 1),
    )


def _summary(config: ScanConfig, model: _Model, counts: ScanCounts, run: RunFigures) -> ScanSummary:
    contract = model.contract
    return ScanSummary(
        format=SCAN_FORMAT,
        model=ModelIdentity(contract.name, contract.fingerprint, contract.notice),
        threshold=decision_threshold(config, contract),
        run=run,
        **vars(counts),
    )


def _scan_record(
    config: ScanConfig, model: _Model, manifest: Manifest, extent: PlanTotals
) -> dict[str, Any]:
    contract = model.contract
    return {
        "format": SCAN_FORMAT,
        "manifests": list(config.paths),
        "input": {"files": len(manifest.files), "rows": extent.rows},
        "model": {
            "name": contract.name,
            "fingerprint": contract.fingerprint,
            "precision": model.precision,
        },
        "settings": {
            "columns": dataclasses.asdict(manifest.columns),
            "threshold": decision_threshold(config, contract),
            "limit": config.limit,
            "shard_rows": config.shard_rows,
            "image_root": config.image_root,
            "allow_outside_root": config.allow_outside_root,
            "allow_private_addresses": config.allow_private_addresses,
        },
        "shards": extent.shards,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = ("numpy", "onnxruntime", "pillow", "pyarrow", "tokenizers")
    return {
        "aigid": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _refuse_results_among_manifests(config: ScanConfig) -> None:
    """A folder is read with all below it: results there would be taken for a manifest when the scan goes on."""
    out = locate(config.out)
    for source in map(locate, config.paths):
        if out.is_below(source) and is_folder(source):
            raise UsageError(
                f"--out {config.out}: is inside the manifest's folder {source.text}: give one outside it"
            )


def _peak_memory_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says begins with the size of the process that started this one.
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / 1024 if sys.platform == "darwin" else peak / 1024
