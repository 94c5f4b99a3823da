"""The scan: plan, scan each missing shard, sum up."""

import dataclasses
import platform
import resource
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from aigid import __version__
from aigid.config import ScanConfig
from aigid.contract import TOKENIZER_FILE, ModelContract
from aigid.decisions import DEFAULT_THRESHOLD
from aigid.errors import ServerError, UsageError
from aigid.fetch import FetchPolicy, image_root_of
from aigid.manifest import Manifest, open_manifest
from aigid.model_location import find_model
from aigid.prompts import PromptEncoder
from aigid.results import ResultsFolder, open_results, results_schema
from aigid.runners.local import run_local
from aigid.scorers import Scorer
from aigid.scorers.load import load_scorer
from aigid.shard_scan import ShardScanner
from aigid.shards import Shard, plan_shards
from aigid.storage import is_folder, locate

SCAN_FORMAT = 1


class Progress(Protocol):
    """What is told of a scan while it runs."""

    def start(self, total_rows: int, done_rows: int) -> None:
        """The scan begins; `done_rows` were committed by an earlier run."""
        ...

    def advance(self, rows: int, errors: int) -> None:
        """More rows are done, `errors` of them with an error."""
        ...


@dataclass(frozen=True)
class ScanOutcome:
    """How a scan ended: its summary, and whether more rows failed than `max_error_rate` allows."""

    summary: dict[str, Any]
    too_many_errors: bool


def scan(config: ScanConfig, progress: Progress, notify: Callable[[str], None] = lambda text: None) -> ScanOutcome:
    """Scan a manifest into a results folder, or go on with a scan that was cut short there.

    `notify` gets lines that a person must see (the demo model's notice). Raises UsageError for what cannot be done as
    asked, ResumeMismatchError where the folder holds another scan, and AigidError where the scan cannot go on.
    """
    repository = find_model(config.model)
    manifest = open_manifest(config.manifests, config.columns)
    results_schema(manifest.keep_schema)
    shards = plan_shards(manifest.files, config.shard_rows, config.limit)
    results = open_results(config.out)
    _refuse_results_among_manifests(config)
    with closing(load_scorer(repository, config.triton, config.batch_rows, notify)) as scorer:
        scanner = make_scanner(config, repository, manifest, scorer)
        if scorer.contract.notice:
            notify(scorer.contract.notice)
        with results.open():
            results.claim(_scan_record(config, scanner, shards))
            done = results.committed(shards)
            missing = [shard for shard in shards if shard.index not in done]
            summary = None if missing else results.read_summary()
            if summary is None:
                summary = _run(scanner, shards, missing, results, progress)
    return ScanOutcome(summary, summary["error_rate"] > config.max_error_rate)


def make_scanner(config: ScanConfig, repository: Path, manifest: Manifest, scorer: Scorer) -> ShardScanner:
    """Settle where images are read from and where decisions are cut, and load the tokenizer."""
    return ShardScanner(
        manifest=manifest,
        policy=FetchPolicy(_image_root(config), config.allow_outside_root),
        prompts=PromptEncoder(repository / TOKENIZER_FILE, scorer.contract.prompt),
        scorer=scorer,
        threshold=_threshold(config, scorer.contract),
        batch_rows=config.batch_rows,
        workers=config.workers,
    )


def _run(
    scanner: ShardScanner, shards: list[Shard], missing: list[Shard], results: ResultsFolder, progress: Progress
) -> dict[str, Any]:
    rows, rows_now = sum(shard.rows for shard in shards), sum(shard.rows for shard in missing)
    progress.start(rows, rows - rows_now)
    started = time.perf_counter()
    try:
        run_local(scanner, missing, results, progress.advance)
    except ServerError as error:
        raise ServerError(f"{error}; what was committed stays: run the same command again to go on") from error
    elapsed_s = time.perf_counter() - started
    contract = scanner.scorer.contract
    summary = {
        "format": SCAN_FORMAT,
        "model": {"name": contract.name, "fingerprint": contract.fingerprint, "notice": contract.notice},
        "threshold": scanner.threshold,
        **results.count(shards),
        "shards": len(shards),
        "run": {
            "rows": rows_now,
            "seconds": round(elapsed_s, 3),
            "rows_per_s": round(rows_now / elapsed_s, 2) if rows_now else None,
            "peak_memory_mib": round(_peak_memory_mib(), 1),
        },
    }
    results.write_summary(summary)
    return summary


def _scan_record(config: ScanConfig, scanner: ShardScanner, shards: list[Shard]) -> dict[str, Any]:
    contract, manifest = scanner.scorer.contract, scanner.manifest
    return {
        "format": SCAN_FORMAT,
        "input": {
            "files": [dataclasses.asdict(file) for file in manifest.files],
            "rows": sum(shard.rows for shard in shards),
        },
        "model": {"name": contract.name, "fingerprint": contract.fingerprint, "precision": scanner.scorer.precision},
        "settings": {
            "columns": dataclasses.asdict(manifest.columns),
            "threshold": scanner.threshold,
            "limit": config.limit,
            "shard_rows": config.shard_rows,
            "image_root": None if config.image_root is None else str(config.image_root),
            "allow_outside_root": config.allow_outside_root,
        },
        "shards": len(shards),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = ("numpy", "onnxruntime", "pillow", "pyarrow", "tokenizers")
    return {"aigid": __version__, "python": platform.python_version(), **{name: version(name) for name in packages}}


def _threshold(config: ScanConfig, contract: ModelContract) -> float:
    if config.max_fpr is not None:
        return contract.threshold_for(config.max_fpr)
    return DEFAULT_THRESHOLD if config.threshold is None else config.threshold


def _image_root(config: ScanConfig) -> Path | None:
    if config.image_root is not None:
        if not config.image_root.is_dir():
            raise UsageError(f"--image-root {config.image_root}: no such folder")
        return config.image_root
    return image_root_of(config.manifests)


def _refuse_results_among_manifests(config: ScanConfig) -> None:
    """A folder is read with all below it: results there would be taken for a manifest when the scan goes on."""
    out = locate(config.out)
    for source in map(locate, config.manifests):
        if source.is_local and out.is_local and is_folder(source):
            folder = Path(source.path).resolve()
            if Path(out.path).resolve().is_relative_to(folder):
                raise UsageError(f"--out {config.out}: is inside the manifest's folder {source.text}: give one outside it")


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / 1024 if sys.platform == "darwin" else peak / 1024
