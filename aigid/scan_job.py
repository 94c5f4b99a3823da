"""A scan as every process that takes part in it sees it: what it is sent, and what it loads."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from aigid.answers import AnswerCache, PerceptualHash
from aigid.config import ScanConfig
from aigid.contract import TOKENIZER_FILE, ModelContract, find_model
from aigid.decisions import DEFAULT_THRESHOLD, VerdictRule
from aigid.errors import ContractError, UsageError
from aigid.evidence import EvidenceReader
from aigid.fetch import FetchPolicy, image_root_of
from aigid.manifest import Manifest
from aigid.progress import OnBatch, OnMessage
from aigid.prompts import PromptEncoder
from aigid.records import Mode
from aigid.results import OptionalColumns, ScannedShard, ShardRetry, open_results
from aigid.scorers import Scorer, load_scorer
from aigid.shard_scan import ShardScanner, scan_shards
from aigid.shards import Shard
from aigid.storage import Location, is_folder, locate

ScanShards = Callable[[Iterable[Shard], OnBatch], Generator[ScannedShard, None, None]]
"""Scans shards, and calls a function after each batch: `scan_shards` without its other settings."""


class ShardJob(Protocol):
    """The work of a worker process, sent to it once; shards follow."""

    def open(self, threads: int, on_message: OnMessage) -> AbstractContextManager[ScanShards]:
        """Load what the work needs on this host, for `threads` threads, until the context ends."""
        ...


@dataclass(frozen=True)
class ScanJob:
    """A scan, as it is sent to worker processes, which load the model themselves.

    `fingerprint` and `precision` are those of the model that the scan began with.
    """

    config: ScanConfig
    manifest: Manifest
    fingerprint: str
    precision: str

    @contextmanager
    def open(self, threads: int, on_message: OnMessage) -> Iterator[ScanShards]:
        """Load the model and start the threads.

        Raises ContractError where this host has no model, or another one than the scan's.
        """
        config = replace(self.config, threads=threads)
        repository = find_model(config.model)
        with closing(
            load_scorer(repository, config.triton, config.batch_rows, on_message)
        ) as scorer:
            self._check_model(repository, scorer)
            scanner = make_scanner(config, repository, self.manifest, scorer)
            pool = ThreadPoolExecutor(threads, thread_name_prefix="scan")
            try:
                yield lambda shards, on_batch: scan_shards(scanner, shards, pool, on_batch)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _check_model(self, repository: Path, scorer: Scorer) -> None:
        fingerprint = scorer.contract.fingerprint
        if (fingerprint, scorer.precision) != (self.fingerprint, self.precision):
            raise ContractError(
                f"`model` {repository}: on this host it is {fingerprint[:16]}... "
                f"({scorer.precision}), but the scan uses {self.fingerprint[:16]}... "
                f"({self.precision}): put the same model on every host"
            )


def make_scanner(
    config: ScanConfig, repository: Path, manifest: Manifest, scorer: Scorer
) -> ShardScanner:
    """Return the scanner of this process: with the tokenizer, the image root and the threshold.

    Raises MissingExtraError where the scan needs an extra that this host has not: to read C2PA, or
    to hash images.
    """
    codes, reuse = config.codes_to_retry, config.reuse_answers or config.hash
    return ShardScanner(
        manifest=manifest,
        policy=fetch_policy(config),
        prompts=PromptEncoder(repository / TOKENIZER_FILE, scorer.contract.prompt),
        scorer=scorer,
        threshold=decision_threshold(config, scorer.contract),
        verdicts=verdict_rule(config, scorer.contract),
        batch_rows=config.batch_rows,
        threads=config.threads,
        evidence=EvidenceReader(config.trust_anchors, config.readers) if config.evidence else None,
        hashes=PerceptualHash() if config.hash else None,
        answers=AnswerCache() if reuse else None,
        retry=ShardRetry(open_results(config.out), codes) if codes else None,
    )


def optional_columns(config: ScanConfig) -> OptionalColumns:
    """Return the optional columns of the scan's results."""
    return OptionalColumns(evidence=config.evidence, hash=config.hash)


def decision_threshold(config: ScanConfig, contract: ModelContract) -> float:
    """Return the lowest `p_ai` of an image that is called AI-generated."""
    if config.max_fpr is not None:
        return contract.threshold_for(config.max_fpr).p_ai
    return DEFAULT_THRESHOLD if config.threshold is None else config.threshold


def verdict_rule(config: ScanConfig, contract: ModelContract) -> VerdictRule:
    """Return the bounds of the scan's verdicts. Raises ContractError where the model has none."""
    return VerdictRule.of(Mode(config.mode), decision_threshold(config, contract), contract)


def fetch_policy(config: ScanConfig) -> FetchPolicy:
    """Return where images may come from; raises UsageError where the image root is no folder."""
    return FetchPolicy(
        _image_root(config),
        config.allow_outside_root,
        config.allow_private_addresses,
        web=config.web,
    )


def _image_root(config: ScanConfig) -> Location | None:
    if config.image_root is None:
        return image_root_of(config.paths)
    root = locate(config.image_root)
    if not root.is_web and not is_folder(root):
        raise UsageError(f"`image_root` {config.image_root}: no such folder")
    return root
