"""The local runner: scans the shards one after the other, each on all threads."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from aigid.results import ResultsFolder
from aigid.shard_scan import OnBatch, ShardScanner, scan_shards
from aigid.shards import Shard


def run_local(
    scanner: ShardScanner, shards: Iterable[Shard], results: ResultsFolder, on_batch: OnBatch
) -> None:
    """Scan and commit each shard; after an exception the committed shards stay."""
    pool = ThreadPoolExecutor(scanner.threads, thread_name_prefix="scan")
    try:
        with closing(scan_shards(scanner, shards, pool, on_batch)) as scanned:
            for shard, table in scanned:
                results.commit(shard.index, table)
                # Its kept columns may be large: it must not wait for the next one.
                del table
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
