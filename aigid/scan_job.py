"""What every process that takes part in a scan must know, and what it makes of it on its own machine."""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from aigid.config import ScanConfig
from aigid.contract import TOKENIZER_FILE, ModelContract, find_model
from aigid.decisions import DEFAULT_THRESHOLD
from aigid.errors import ContractError, UsageError
from aigid.fetch import FetchPolicy, image_root_of
from aigid.manifest import Manifest
from aigid.progress import OnMessage
from aigid.prompts import PromptEncoder
from aigid.scorers import Scorer
from aigid.scorers.load import load_scorer
from aigid.shard_scan import OnBatch, ShardScanner, scan_shards
from aigid.shards import Shard
from aigid.storage import Location, is_folder, locate

ScanShards = Callable[[Iterable[Shard], OnBatch], Generator[tuple[Shard, pa.Table], None, None]]
"""Scans shards, and tells a function of each batch: `scan_shards` with all the rest settled."""


class ShardJob(Protocol):
    """What a worker process is sent, and does with shards."""

    def open(self, threads: int, on_message: OnMessage) -> AbstractContextManager[ScanShards]:
        """Get ready on this machine, with so many threads, until the context ends."""
        ...


@dataclass(frozen=True)
class ScanJob:
    """A scan as worker processes are told of it: they load the model themselves, and read, decode and score there."""

    config: ScanConfig
    manifest: Manifest
    fingerprint: str
    precision: str

    @contextmanager
    def open(self, threads: int, on_message: OnMessage) -> Iterator[ScanShards]:
        """Load the model and settle the rest.

        Raises ContractError where there is no model here, or another than the scan's.
        """
        repository = find_model(self.config.model)
        with closing(
            load_scorer(repository, self.config.triton, self.config.batch_rows, on_message)
        ) as scorer:
            if (scorer.contract.fingerprint, scorer.precision) != (
                self.fingerprint,
                self.precision,
            ):
                raise ContractError(
                    f"{repository}: is model {scorer.contract.fingerprint[:16]}... ({scorer.precision}) here, but the scan "
                    f"uses {self.fingerprint[:16]}... ({self.precision}): put the same model on every machine"
                )
            scanner = make_scanner(
                replace(self.config, threads=threads), repository, self.manifest, scorer
            )
            pool = ThreadPoolExecutor(threads, thread_name_prefix="scan")
            try:
                yield lambda shards, on_batch: scan_shards(scanner, shards, pool, on_batch)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def make_scanner(
    config: ScanConfig, repository: Path, manifest: Manifest, scorer: Scorer
) -> ShardScanner:
    """Settle where images are read from and where decisions are cut, and load the tokenizer."""
    return ShardScanner(
        manifest=manifest,
        policy=fetch_policy(config),
        prompts=PromptEncoder(repository / TOKENIZER_FILE, scorer.contract.prompt),
        scorer=scorer,
        threshold=decision_threshold(config, scorer.contract),
        batch_rows=config.batch_rows,
        threads=config.threads,
    )


def decision_threshold(config: ScanConfig, contract: ModelContract) -> float:
    """The `p_ai` from which on an image is called AI-generated."""
    if config.max_fpr is not None:
        return contract.threshold_for(config.max_fpr)
    return DEFAULT_THRESHOLD if config.threshold is None else config.threshold


def fetch_policy(config: ScanConfig) -> FetchPolicy:
    """Where images may come from; raises UsageError where there is no such image root."""
    return FetchPolicy(
        _image_root(config), config.allow_outside_root, config.allow_private_addresses
    )


def _image_root(config: ScanConfig) -> Location | None:
    if config.image_root is None:
        return image_root_of(config.paths)
    root = locate(config.image_root)
    if not root.is_web and not is_folder(root):
        raise UsageError(f"--image-root {config.image_root}: no such folder")
    return root
